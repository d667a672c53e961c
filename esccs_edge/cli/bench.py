"""``esccs-edge bench``: how fast a bundle answers on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .options import backend_option, bundle_option
from .progress import Progress
from .shell import Answer, command

if TYPE_CHECKING:
    from ..bench import Timing


@command("bench", example="esccs-edge bench --batch 1 --batch 32 --json")
@bundle_option
@backend_option
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="Pairs per call; may be repeated [1, 8, 32].",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads to use [all cores].")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Time spent on each row.",
)
def run(
    bundle: str, backend: str, batches: tuple[int, ...], threads: int | None, seconds: float
) -> Answer:
    """Measure latency, throughput and cold start.

    Preprocessing and inference are also timed apart. Pixels are random, rows are raw pixels to
    predictions; only our own timings so far.
    """
    from ..bench import BATCHES, bench, cold_start_ms, host
    from ..bundle import Bundle
    from ..classifier import Classifier

    opened, sizes = Bundle.open(bundle), batches or BATCHES
    with (
        Classifier(opened, backend=backend, max_batch=max(sizes), threads=threads) as classifier,
        Progress("bench") as progress,
    ):
        device = classifier.health()
        rows = bench(
            classifier, batches=sizes, threads=threads, min_seconds=seconds, progress=progress
        )
    start_ms = cold_start_ms(opened.folder, backend)
    document = {
        "rows": [asdict(row) for row in rows],
        "cold_start_ms": start_ms,
        "host": host(),
        "backend": device,
    }
    return Answer(document, _table(rows, start_ms, document["host"]))


def _table(rows: Sequence[Timing], start_ms: float, host: Any) -> str:
    lines = [
        f"{host['processor']}, {host['cores']} cores, openvino {host['openvino']}",
        f"{'':<24}{'batch':>6}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}{'pairs/s':>11}",
    ]
    for row in rows:
        lines.append(
            f"{row.peer:<24}{row.batch:>6}{row.p50_ms:>10.3f}{row.p90_ms:>10.3f}"
            f"{row.p99_ms:>10.3f}{row.pairs_per_s:>11.0f}"
        )
    lines.append(f"cold start (import to first answer, fresh process): {start_ms:.0f} ms")
    return "\n".join(lines)
