"""``esccs-edge export``: the trained student becomes an ONNX graph."""

from __future__ import annotations

import click

from .progress import Progress
from .shell import CommandResult, command


@command("export", example="esccs-edge export runs/first/bundle")
@click.argument("bundle")
def run(bundle: str) -> CommandResult:
    """Turn the trained student of BUNDLE into ONNX.

    Adds student.onnx and reference.npz, then holds the graph against the trained network; a
    difference past the tolerance is an error.
    """
    from esccs_edge.export.parity import check_parity
    from esccs_edge.export.to_onnx import export_student

    from ..contracts.bundle import Bundle

    with Progress("export"):
        exported = export_student(Bundle.open(bundle))
        parity = check_parity(exported)
    files = {name: record.bytes for name, record in exported.manifest.files.items()}
    document = {"folder": exported.folder, "files": files, "parity": parity.to_dict()}
    lines = [f"  {name:<22} {size:>10,} bytes" for name, size in files.items()]
    return CommandResult(
        document, "\n".join([f"{exported.folder}", *lines, parity.to_table().rstrip()])
    )
