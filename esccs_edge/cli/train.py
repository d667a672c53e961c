"""``esccs-edge train``: teacher, auxiliaries, student; ends with a bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .shell import Answer, command

if TYPE_CHECKING:
    from ..training.options import TrainOptions


@command(
    "train",
    example="""
    esccs-edge train --config run.toml
    esccs-edge train --data data/index.csv --out runs/first --seed 7
    esccs-edge train --config run.toml --set student.schedule.epochs=20
    esccs-edge train --config run.toml --resume
    """,
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="Options of the run; what is given here beside it wins.",
)
@click.option("--data", metavar="INDEX", help="An index.csv, or eurosat:FOLDER and the like.")
@click.option("--out", metavar="FOLDER", help="Run folder.")
@click.option("--name", help="Model name for the manifest.")
@click.option("--seed", type=int, help="Seed of everything drawn [0].")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other option by its dotted name, as in the file; may be repeated.",
)
@click.option("--resume", is_flag=True, help="Go on after the last finished epoch.")
def run(
    config: Path | None,
    data: str | None,
    out: str | None,
    name: str | None,
    seed: int | None,
    settings: tuple[str, ...],
    resume: bool,
) -> Answer:
    """Train a student; the run ends with a bundle.

    Teacher, then auxiliaries, then student. The run folder holds bundle/, heldout/index.csv
    (cloudy pairs to calibrate and evaluate with), checkpoints/ and logs/. The same options and
    seed give the same numbers, with or without a stop in between.
    """
    given = {"data": data, "out": out, "name": name, "seed": seed}
    changes = {key: value for key, value in given.items() if value is not None}
    options = _options(config, changes, settings)
    for key, flag in (("data", "--data"), ("out", "--out")):
        if not getattr(options, key):
            raise click.UsageError(f"{flag} is missing, and the configuration does not name it")

    from ..training.run import train

    bundle = train(options, resume=resume)
    document = {
        "bundle": bundle.folder,
        "run": Path(options.out),
        "provenance": bundle.manifest.provenance,
    }
    return Answer(document, f"{bundle.folder}\nNext: esccs-edge export {bundle.folder}")


def _options(
    config: Path | None, changes: Mapping[str, Any], settings: tuple[str, ...]
) -> TrainOptions:
    from ..training.options import TrainOptions, options_from, read_options

    options = TrainOptions() if config is None else read_options(config)
    document = options.as_dict()
    for setting in settings:
        _merge(document, _setting(setting))
    return options_from({**document, **changes})


def _setting(text: str) -> dict[str, Any]:
    """Read ``a.b=1`` as TOML does; a bare word is text, so that paths need no quotes."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    key, equals, value = text.partition("=")
    quoted = json.dumps(value.strip())
    for line in (f"{key} = {value}", f"{key} = {quoted}") if equals else ():
        try:
            return tomllib.loads(line)
        except tomllib.TOMLDecodeError:
            continue
    raise click.UsageError(f"--set is {text!r}, expected KEY=VALUE")


def _merge(document: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = value
