"""``esccs-edge verify``: is this bundle whole, and does this machine compute what it should?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .shell import Answer, command

if TYPE_CHECKING:
    from esccs_edge.export.parity import ParityReport

    from ..contracts.bundle import Bundle

REFERENCE_NAME = "reference.npz"
BATCH = 8


@command("verify", example="esccs-edge verify default --json")
@click.argument("bundle")
def run(bundle: str) -> Answer:
    """Check hashes and answers of BUNDLE on this machine.

    The comparison of answers runs where the bundle holds reference.npz; it fails past the
    stated tolerance.
    """
    from ..contracts.bundle import Bundle

    opened = Bundle.open(bundle)
    files = opened.verify()
    parity = _parity(opened)
    document = {
        "ok": True,
        "folder": opened.folder,
        "files": files,
        "parity": None if parity is None else parity.to_dict(),
    }
    table = f"no {REFERENCE_NAME}: answers not compared" if parity is None else parity.to_table()
    lines = f"{opened.folder}: {len(files)} files match their SHA-256\n{table.rstrip()}"
    return Answer(document, lines)


def _parity(bundle: Bundle) -> ParityReport | None:
    if REFERENCE_NAME not in bundle.manifest.files:
        return None
    from esccs_edge.export.parity import check_parity

    from ..backends.cpu.backend import CpuBackend

    backend = CpuBackend(bundle, bundle.manifest, max_batch=BATCH, precision="fp32")
    try:
        return check_parity(bundle, backend)
    finally:
        backend.close()
