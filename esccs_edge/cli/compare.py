"""``esccs-edge compare``: several methods on the same pairs and seeds, one table."""

from __future__ import annotations

from pathlib import Path

import click

from .shell import CommandResult, command
from .training_options import (
    config_option,
    given,
    settings_option,
    trainer_options,
    training_options,
)


@command(
    "compare",
    help="""
    Train and judge several methods on the same pairs.

    All methods get the same clouds, seeds and number of epochs; told.md states what each is told,
    and only rows that are told the same are ranked. OUT gets table.md, table.csv, told.md,
    summary.json, runs.json, three pictures and the answers of every run; finished runs are kept as
    they come, and --resume goes on with the rest. Of a segmentation, OUT gets tables and summary of
    mIoU without pictures.

    With --judge, --test is real triplets without labels: all methods learn on them as their target,
    each seed without another fold of places, and the answers on these are compared with the judge.
    """,
    example="""
    esccs-edge compare --train train.csv --test test.csv --out runs/compare --seeds 3
    esccs-edge compare --train train.csv --test test.csv --out runs/compare --resume
    esccs-edge compare --train all.csv --test all.csv --out runs/two --methods headline,ends
    esccs-edge compare --task semantic-segmentation --train ombria:O --test ombria:O --out maps
    esccs-edge compare --config b4.toml --train eurosat:E --test sen12ms-cr:T --judge j.npz --out b4
    """,
)
@click.option("--train", "train_index", required=True, metavar="INDEX", help="Training pairs.")
@click.option("--test", "test_index", required=True, metavar="INDEX", help="Pairs to judge on.")
@click.option(
    "--methods",
    metavar="A,B",
    help="Methods, or groups of them such as headline, to compare [all].",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs per method."
)
@click.option(
    "--other-seeds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs of the methods that are not in the group headline [as many].",
)
@click.option(
    "--trials",
    type=click.IntRange(min=0, max=3),
    default=0,
    show_default=True,
    help="Learning rates tried for every method before, on places that are never judged.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the runs and the table.",
)
@click.option(
    "--judge",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Real triplets as unlabeled target: what a judge says of their clear images.",
)
@click.option(
    "--task", help="scene-classification or semantic-segmentation [scene-classification]."
)
@config_option
@trainer_options
@settings_option
@click.option("--resume", is_flag=True, help="Keep the runs that are finished.")
def run(
    train_index: str,
    test_index: str,
    methods: str | None,
    seeds: int,
    other_seeds: int | None,
    trials: int,
    jobs: int,
    out: Path,
    judge: Path | None,
    task: str | None,
    config: Path | None,
    settings: tuple[str, ...],
    resume: bool,
    **trainer: str | None,
) -> CommandResult:
    from esccs_edge.training.comparison.run import compare

    comparison = compare(
        train_index,
        test_index,
        out,
        methods=None if methods is None else [name.strip() for name in methods.split(",")],
        seeds=seeds,
        other_seeds=other_seeds,
        trials=trials,
        jobs=jobs,
        resume=resume,
        options=training_options(config, given({"task": task, **trainer}), settings),
        judge=judge,
    )
    document = {"folder": comparison.folder, "rows": comparison.rows}
    return CommandResult(
        document, (comparison.folder / "table.md").read_text(encoding="utf-8").rstrip()
    )
