"""``esccs-edge export``: the trained student becomes an ONNX graph."""

from __future__ import annotations

import click

from .options import bundle_argument, open_bundle
from .progress import Progress
from .shell import CommandResult, command


@command(
    "export",
    help="""
    Turn the trained student of BUNDLE into ONNX.

    Adds student.onnx and reference.npz, then holds the graph against the trained network; a
    difference past the tolerance is an error.
    """,
    example="esccs-edge export runs/first/bundle",
)
@bundle_argument
@click.option(
    "--encoder",
    "encoders",
    metavar="MODULE:FACTORY",
    multiple=True,
    help="An encoder of your own that BUNDLE names; its code is imported. May be repeated.",
)
def run(bundle: str, encoders: tuple[str, ...]) -> CommandResult:
    from esccs_edge.export.parity import check_parity
    from esccs_edge.export.to_onnx import export_student

    with Progress("export"):
        exported = export_student(open_bundle(bundle), encoders=encoders)
        parity = check_parity(exported)
    files = {name: record.bytes for name, record in exported.manifest.files.items()}
    document = {"folder": exported.folder, "files": files, "parity": parity.to_dict()}
    lines = [f"  {name:<22} {size:>10,} bytes" for name, size in files.items()]
    return CommandResult(
        document, "\n".join([f"{exported.folder}", *lines, parity.to_table().rstrip()])
    )
