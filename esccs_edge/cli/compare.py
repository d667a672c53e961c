"""``esccs-edge compare``: several methods on the same pairs and seeds, one table."""

from __future__ import annotations

from pathlib import Path

import click

from .shell import Answer, command


@command(
    "compare",
    example="esccs-edge compare --train train.csv --test test.csv --seeds 3 --out runs/compare",
)
@click.option("--train", "train_index", required=True, metavar="INDEX", help="Training pairs.")
@click.option("--test", "test_index", required=True, metavar="INDEX", help="Pairs to judge on.")
@click.option("--methods", metavar="A,B", help="Methods to compare [all].")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs per method."
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at a time."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the runs and the table.",
)
@click.option("--resume", is_flag=True, help="Keep the runs that are finished.")
def run(
    train_index: str,
    test_index: str,
    methods: str | None,
    seeds: int,
    jobs: int,
    out: Path,
    resume: bool,
) -> Answer:
    """Train and judge several methods on the same pairs."""
    from ..training.compare import compare

    report = compare(
        train_index,
        test_index,
        methods=None if methods is None else tuple(methods.split(",")),
        seeds=seeds,
        jobs=jobs,
        out=out,
        resume=resume,
    )
    return Answer(report.to_dict(), report.to_table())
