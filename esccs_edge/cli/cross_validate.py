"""``esccs-edge cross-validate``: a recipe judged on every place by a model that never saw it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .shell import CommandResult, command
from .training_options import (
    config_option,
    data_option,
    given,
    settings_option,
    trainer_options,
    training_options,
)


@command(
    "cross-validate",
    help="""
    Train a model per fold of places and judge it on these.

    Each model learns without the places of its fold. Reported are balanced accuracy on the labeled
    pairs, clear, in other light and under simulated clouds; with real pairs and a judge also how
    often the answers under real clouds agree with it. A command that was stopped goes on where it
    stood, and folds may run side by side with --only.
    """,
    example="""
    esccs-edge cross-validate --data data/index.csv --folds 5 --out runs/folds
    esccs-edge cross-validate --config run.toml --data data/index.csv --out runs/folds --only 2
    """,
)
@config_option
@data_option
@click.option("--out", metavar="FOLDER", help="Folder of the folds; finished ones are kept.")
@click.option("--folds", type=click.IntRange(min=2), help="Folds by place [folds.count].")
@click.option("--only", type=int, multiple=True, help="Train this fold alone; may be repeated.")
@click.option(
    "--judge",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="What an independent judge says of the clear images of the real pairs.",
)
@trainer_options
@settings_option
def run(
    config: Path | None,
    data: str | None,
    out: str | None,
    folds: int | None,
    only: tuple[int, ...],
    judge: Path | None,
    settings: tuple[str, ...],
    **trainer: str | None,
) -> CommandResult:
    changes = given({"data": data, "out": out, **trainer})
    if folds is not None:
        changes["folds"] = {"count": folds}
    options = training_options(config, changes, settings)

    from esccs_edge.training.cross_validation import cross_validate
    from esccs_edge.training.judging.agreement import agreement_table
    from esccs_edge.training.scene_options import TrainOptions

    if not isinstance(options, TrainOptions):
        raise click.UsageError(f"--task {options.task} has no cross-validation")
    report = cross_validate(options, judge=judge, only=only)
    if report is None:
        return CommandResult({"report": None}, "Other folds are missing yet; no report.")
    lines = [_labeled(report)]
    if "real" in report:
        lines += ["", agreement_table(report["real"]), _confidence(report["real"])]
    lines.append(f"  temperature {report['temperature']:.2f}")
    return CommandResult(report, "\n".join(lines))


def _labeled(report: Mapping[str, Any]) -> str:
    rows = report["labeled"]
    width = max(map(len, rows))
    lines = [f"{'':{width}}  balanced accuracy   folds"]
    for name, row in rows.items():
        folds = " ".join(f"{value:.3f}" for value in row["folds"])
        lines.append(f"{name:{width}}  {row['balanced_accuracy']:17.3f}   {folds}")
    return "\n".join(lines)


def _confidence(real: Mapping[str, Any]) -> str:
    return (
        f"  with both: expected calibration error {real['ece']:.3f} "
        f"({real['ece_by_chance']:.3f} by chance), rank correlation of gate and cover "
        f"{real['gate_rank_correlation']:.2f}"
    )
