"""``esccs-edge verify``: is this bundle whole, and does this machine compute what it should?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..contracts.bundle_files import REFERENCE
from .options import PRECISIONS, bundle_argument, open_bundle
from .shell import CommandResult, command

if TYPE_CHECKING:
    from esccs_edge.export.parity import ParityReport

    from ..contracts.bundle import Bundle
    from ..contracts.bundle_files import Precision

BATCH = 8


@command(
    "verify",
    help="""
    Check hashes and answers of BUNDLE; print its digest.

    Answers are compared with those of the trained network, on the CPU, where the bundle holds
    reference.npz; past the stated tolerance the command fails. What an engine answers on a GPU,
    `build --choose` compares.
    """,
    example="""
    esccs-edge verify default --json
    esccs-edge verify default --precision fp32
    """,
)
@bundle_argument
@click.option(
    "--precision",
    type=PRECISIONS,
    default="auto",
    show_default=True,
    help="Number format in which this machine answers; others than fp32 may differ more.",
)
def run(bundle: str, precision: Any) -> CommandResult:
    opened = open_bundle(bundle)
    files = opened.verify()
    parity = _parity(opened, precision)
    document = {
        "ok": True,
        "folder": opened.folder,
        "digest": opened.digest,
        "files": files,
        "parity": None if parity is None else parity.to_dict(),
    }
    table = f"no {REFERENCE}: answers not compared" if parity is None else parity.to_table()
    lines = (
        f"{opened.folder}: {len(files)} files match their SHA-256",
        f"digest {opened.digest}",
        table.rstrip(),
    )
    return CommandResult(document, "\n".join(lines))


def _parity(bundle: Bundle, precision: Precision) -> ParityReport | None:
    if REFERENCE not in bundle.manifest.files:
        return None
    from esccs_edge.export.parity import check_parity

    from ..backends.cpu.backend import CpuBackend

    backend = CpuBackend(bundle, bundle.manifest, max_batch=BATCH, precision=precision)
    try:
        return check_parity(bundle, backend)
    finally:
        backend.close()
