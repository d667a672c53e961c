"""``esccs-edge verify``: is this bundle whole, and does this machine compute what it should?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..contracts.bundle_files import REFERENCE, Precision
from .shell import Answer, command

if TYPE_CHECKING:
    from esccs_edge.export.parity import ParityReport

    from ..contracts.bundle import Bundle

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
    table = f"no {REFERENCE}: answers not compared" if parity is None else parity.to_table()
    lines = f"{opened.folder}: {len(files)} files match their SHA-256\n{table.rstrip()}"
    return Answer(document, lines)


def _parity(bundle: Bundle) -> ParityReport | None:
    if REFERENCE not in bundle.manifest.files:
        return None
    from esccs_edge.export.parity import check_parity

    from ..backends.cpu.backend import CpuBackend

    # An INT8 bundle runs in what this CPU computes exactly, a float one in the form it is held to.
    precision: Precision = "fp32" if bundle.manifest.quantization is None else "auto"
    backend = CpuBackend(bundle, bundle.manifest, max_batch=BATCH, precision=precision)
    try:
        return check_parity(bundle, backend)
    finally:
        backend.close()
