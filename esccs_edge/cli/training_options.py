"""Options of training as `train` and `compare` take them: a TOML file, settings, then flags."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .completion import complete_files, complete_settings

if TYPE_CHECKING:
    from esccs_edge.training.options import RunOptions

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="Options of the run; what stands on the command line wins over it.",
)
data_option = click.option(
    "--data",
    metavar="INDEX",
    shell_complete=complete_files,
    help="Data set: an index.csv, or KIND:PATH such as eurosat:FOLDER.",
)
settings_option = click.option(
    "--set",
    "settings",
    shell_complete=complete_settings,
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other option by its dotted name, such as student.schedule.epochs=20; may be "
    "repeated.",
)


def trainer_options(function: AnyCommand) -> AnyCommand:
    """Add what Lightning's trainer is told; the command passes what it gets to `given`."""
    for option in (
        click.option(
            "--precision", help="Arithmetic of the networks, such as bf16-mixed [32-true]."
        ),
        click.option(
            "--devices",
            metavar="WHICH",
            help="'1' for any one device, 'N,' for the GPU with the number N [1].",
        ),
        click.option(
            "--accelerator", metavar="KIND", help="Where to train: cpu, gpu and others [auto]."
        ),
        click.option(
            "--logger",
            metavar="NAME",
            help="Curves go to tensorboard, csv, none or PACKAGE.MODULE:FACTORY [tensorboard].",
        ),
    ):
        function = option(function)
    return function


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that stand on the command line."""
    return {key: value for key, value in values.items() if value is not None}


def training_options(
    config: Path | None, changes: Mapping[str, Any], settings: tuple[str, ...]
) -> RunOptions:
    """Build the options of a run; of one option the last given wins: file, settings, changes."""
    from esccs_edge.training.options_file import options_from, read_options

    given: dict[str, Any] = {}
    for setting in settings:
        _merge(given, _setting(setting))
    _merge(given, changes)
    task = {key: given[key] for key in ("task",) if key in given}
    options = options_from(task) if config is None else read_options(config, **task)
    document = options.as_dict()
    _merge(document, given)
    return options_from(document)


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
