"""The soak: load of every kind with faults of the catalog, for hours, with accounts at the end.

From the folder ``tests``: ``python -m benchmarks.load --hours 2 --out ../soak-out``. It ends with
status 1 if a promise of docs/reliability.md broke. Linux only; rasterio and onnx are needed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from esccs_edge.bench.host import host
from esccs_edge.contracts.bundle import Bundle

from .long_run import PATIENCE_S, long_run
from .long_run_page import long_run_page, write_long_run

_TOLD_EVERY = 0.02


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    options = _parser().parse_args(words)
    found = long_run(
        Bundle.open(options.bundle),
        options.hours,
        threads=options.threads,
        seed=options.seed,
        patience_s=options.patience,
        progress=_Told(),
    )
    print(long_run_page(found, host()))
    if options.out is not None:
        write_long_run(options.out, found, host())
    return 1 if found.breaks else 0


class _Told:
    """Says now and then how far it is: a line each time, since logs have no terminal."""

    def __init__(self) -> None:
        self._next = _TOLD_EVERY

    def __call__(self, done: int, total: int) -> None:
        if total and done / total >= self._next:
            self._next += _TOLD_EVERY
            with suppress(OSError):  # a log is a file, and for moments no file may grow
                print(f"{time.strftime('%H:%M:%S')} {done:,} of {total:,} s", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("benchmarks.load", description=__doc__)
    add = parser.add_argument
    add("--hours", type=float, required=True, help="how long")
    add("--out", type=Path, help="folder for soak.json and soak.md")
    add("--bundle", default="default", help="folder of the model")
    add("--threads", type=int, help="CPU threads of the classifier [all]")
    add("--seed", type=int, default=0, help="of all dice [0]")
    add("--patience", type=float, default=PATIENCE_S, help=f"seconds [{PATIENCE_S:g}]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
