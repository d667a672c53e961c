"""``esccs-edge train``: all stages of a task; ends with a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .completion import complete_bundles
from .shell import CommandResult, command
from .training_options import (
    config_option,
    data_option,
    given,
    settings_option,
    trainer_options,
    training_options,
)

if TYPE_CHECKING:
    from esccs_edge.training.options import RunOptions


@command(
    "train",
    help="""
    Train a student; the run ends with a bundle.

    Scene classification trains a teacher, then auxiliaries, then the student. The run folder
    holds bundle/, heldout/index.csv (cloudy pairs to calibrate and evaluate with), checkpoints/
    and logs/. The same options and seed give the same numbers, with or without a stop in between.
    --set KEY=VALUE sets any of the options that --list-options prints.
    """,
    example="""
    esccs-edge train --config run.toml
    esccs-edge train --data data/index.csv --out runs/first --seed 7
    esccs-edge train --config run.toml --set student.schedule.epochs=20
    esccs-edge train --config run.toml --resume
    esccs-edge train --config run.toml --accelerator gpu --precision bf16-mixed --logger csv
    esccs-edge train --data mine/index.csv --out runs/mine --init runs/first/bundle
    """,
)
@config_option
@data_option
@click.option("--out", metavar="FOLDER", help="Run folder.")
@click.option("--name", help="Model name for the manifest.")
@click.option(
    "--task",
    help="scene-classification, semantic-segmentation, series-classification, series-segmentation, "
    "or that of another package [scene-classification].",
)
@click.option(
    "--teacher",
    metavar="MODULE:FACTORY",
    help="A teacher of your own, asked in place of one that is trained.",
)
@click.option("--seed", type=int, help="Seed of everything drawn [0].")
@click.option(
    "--init",
    metavar="BUNDLE",
    shell_complete=complete_bundles,
    help="Start at the weights of a bundle that was trained before; classes may be others.",
)
@trainer_options
@settings_option
@click.option("--list-options", is_flag=True, help="Print all options of --task.")
@click.option("--resume", is_flag=True, help="Go on after the last finished epoch.")
def run(
    config: Path | None,
    data: str | None,
    out: str | None,
    name: str | None,
    task: str | None,
    teacher: str | None,
    seed: int | None,
    init: str | None,
    settings: tuple[str, ...],
    list_options: bool,
    resume: bool,
    **trainer: str | None,
) -> CommandResult:
    named = {"data": data, "out": out, "name": name, "task": task, "seed": seed, "init": init}
    changes = given({**named, **trainer})
    if teacher is not None:
        changes["teacher"] = {"factory": teacher}
    options = training_options(config, changes, settings)
    if list_options:
        return _listed(options)
    for key, flag in (("data", "--data"), ("out", "--out")):
        if not getattr(options, key):
            raise click.UsageError(f"{flag} is missing, and the configuration does not name it")

    from esccs_edge.training.run import train

    bundle = train(options, resume=resume)
    document = {
        "bundle": bundle.folder,
        "run": Path(options.out),
        "provenance": bundle.manifest.provenance,
    }
    return CommandResult(document, f"{bundle.folder}\nNext: esccs-edge export {bundle.folder}")


def _listed(options: RunOptions) -> CommandResult:
    from esccs_edge.training.option_list import option_list

    rows = option_list(type(options))
    lines = [
        f"{row.key} = {row.default or '(none)'}  ({row.kind})\n    {row.meaning}" for row in rows
    ]
    document = {"task": options.task, "options": [row._asdict() for row in rows]}
    return CommandResult(document, "\n".join(lines))
