"""``esccs-edge train``: all stages of a task; ends with a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from .shell import CommandResult, command
from .training_options import config_option, settings_option, training_options


@command(
    "train",
    example="""
    esccs-edge train --config run.toml
    esccs-edge train --data data/index.csv --out runs/first --seed 7
    esccs-edge train --config run.toml --set student.schedule.epochs=20
    esccs-edge train --config run.toml --resume
    """,
)
@config_option
@click.option("--data", metavar="INDEX", help="An index.csv, or eurosat:FOLDER and the like.")
@click.option("--out", metavar="FOLDER", help="Run folder.")
@click.option("--name", help="Model name for the manifest.")
@click.option("--task", help="What is learned [scene-classification].")
@click.option("--seed", type=int, help="Seed of everything drawn [0].")
@settings_option
@click.option("--resume", is_flag=True, help="Go on after the last finished epoch.")
def run(
    config: Path | None,
    data: str | None,
    out: str | None,
    name: str | None,
    task: str | None,
    seed: int | None,
    settings: tuple[str, ...],
    resume: bool,
) -> CommandResult:
    """Train a student; the run ends with a bundle.

    Scene classification trains a teacher, then auxiliaries, then the student. The run folder
    holds bundle/, heldout/index.csv (cloudy pairs to calibrate and evaluate with), checkpoints/
    and logs/. The same options and
    seed give the same numbers, with or without a stop in between.
    """
    given = {"data": data, "out": out, "name": name, "task": task, "seed": seed}
    changes = {key: value for key, value in given.items() if value is not None}
    options = training_options(config, changes, settings)
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
