"""The command line: ``esccs-edge COMMAND``.

`_COMMANDS` is the only list of commands. A command's module is imported when the command is
looked up and imports the package it runs only when it runs, so ``--help`` loads nothing but click.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

import click

from .shell import CONTEXT_SETTINGS, Command

_COMMANDS = {
    "demo": "demo",
    "classify": "classify",
    "stack": "stack",
    "map": "map",
    "check": "check",
    "train": "train",
    "cross-validate": "cross_validate",
    "evaluate": "evaluate",
    "report": "report",
    "compare": "compare",
    "export": "export",
    "calibrate": "calibrate",
    "build": "build",
    "verify": "verify",
    "bench": "bench",
    "inspect": "inspect",
    "serve": "serve",
    "doctor": "doctor",
}


class _Commands(click.Group):
    """Commands by name, in the order in which they are first used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> Command | None:
        if name not in _COMMANDS:
            return None
        found = import_module(f".{_COMMANDS[name]}", __name__).run
        assert isinstance(found, Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], _COMMANDS, 2)
            if not near:
                raise
            words = f"{error.message} Did you mean {' or '.join(near)}?"
            raise click.UsageError(words, ctx) from None


@click.group(
    help="""
    Classify and map cloudy satellite images, from optical and SAR together.

    OPTICAL is a Sentinel-2 raster, SAR a Sentinel-1 raster of the same ground; '-' stands for an
    absent one. BUNDLE is a folder that `train` wrote, or the name of a model that ships with the
    package: default (scenes), land-cover (pixels), crop-series (time series). INDEX lists labeled
    samples, one a row: an index.csv, or KIND:PATH for a public data set, such as eurosat:FOLDER.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
    """,
    cls=_Commands,
    context_settings=CONTEXT_SETTINGS,
    epilog="""\b
Examples:
  esccs-edge demo --out demo-out
  esccs-edge classify s2.tif s1.tif --json
  esccs-edge COMMAND --help""",
)
@click.version_option(package_name="esccs-edge", prog_name="esccs-edge")
def main() -> None:
    pass
