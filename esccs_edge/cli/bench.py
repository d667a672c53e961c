"""``esccs-edge bench``: how fast a bundle answers on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from ..contracts.bundle_files import Precision
from .options import backend_option, bundle_option, open_bundle, precision_option
from .progress import Progress
from .shell import CommandResult, command, json_text

#: What ``--out`` writes into its folder.
JSON_NAME, PAGE_NAME = "bench.json", "bench.md"


@command(
    "bench",
    help="""
    Measure latency, throughput and energy on this machine.

    Rows go from raw pixels to labels; their parts, the cold start and the memory are measured
    too. Pixels are those of the example scene where the model reads such, else simulated; what is
    answered does not count. Energy is reported where a sensor can be read.
    """,
    example="""
    esccs-edge bench --batch 1 --batch 32 --json
    esccs-edge bench --threads 1 --threads 2 --out bench
    """,
)
@bundle_option
@backend_option
@precision_option
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="Pairs per call; may be repeated [1, 8, 32].",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    multiple=True,
    help="Threads to use; may be repeated [all cores].",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Time spent on each row.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder for {JSON_NAME} and {PAGE_NAME}.",
)
def run(
    bundle: str,
    backend: str,
    precision: Precision,
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    seconds: float,
    out: Path | None,
) -> CommandResult:
    from ..bench.measure import BATCHES, Plan, bench
    from ..bench.report import document, markdown, table
    from ..system.atomic import write_atomic

    opened = open_bundle(bundle)
    plan = Plan(batches or BATCHES, threads or (None,), seconds, backend, precision)
    with Progress("bench") as progress:
        found = document(bench(opened, plan, progress=progress), plan)
    if out is not None:
        write_atomic(out / PAGE_NAME, markdown(found))
        write_atomic(out / JSON_NAME, json_text(found) + "\n")
    return CommandResult(found, table(found))
