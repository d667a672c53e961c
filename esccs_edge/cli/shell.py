"""What every command shares: its example, ``--json``, ``--debug``, errors and exit codes.

A command returns a `CommandResult` and never prints it. While it runs, standard output is
redirected to standard error, so that with ``--json`` it holds exactly one JSON document.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import click

from ..errors import EsccsError, MissingDependencyError

#: Import name -> the extra of this package that brings it.
EXTRAS = {
    "rasterio": "geo",
    "cv2": "view",
    "matplotlib": "view",
    "torch": "train",
    "lightning": "train",
    "torchmetrics": "train",
    "safetensors": "train",
    "tomli": "train",
    "onnx": "export",
    "onnxscript": "export",
    "onnxsim": "export",
    "onnxruntime": "export",
    "ray": "scale",
    "pyarrow": "scale",
    "tensorrt": "trt",
    "tensorrt_rtx": "rtx",
    "tensorrt_rtx_bindings": "rtx",
}

#: What hints of the Python interface set in backticks -> its form on the command line.
OPTIONS = {
    "overwrite=True": "--overwrite",
    "sar_unit='linear'": "--sar-unit linear",
    "precision='auto'": "--precision auto",
    "paths": "--input NAME=FILE",
    "classify_scene": "esccs-edge map",
}

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True)
class CommandResult:
    """What a command found out.

    Attributes:
        document: The JSON form; its shape is a promise to programs.
        text: The same as text for a terminal.
        exit_code: 1 when the result is that something does not work.
    """

    document: Mapping[str, Any]
    text: str
    exit_code: int = 0


class Command(click.Command):
    """A command with ``--json`` and ``--debug`` whose callback returns a `CommandResult`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]

    def invoke(self, ctx: click.Context) -> None:
        """Run the command and print its result; a refusal becomes a message and exit code 1."""
        as_json, debug = ctx.params.pop("as_json"), ctx.params.pop("debug")
        try:
            with redirect_stdout(sys.stderr):
                result: CommandResult = super().invoke(ctx)
        except Exception as error:
            refusal = _refusal_of(error)
            if debug or refusal is None:
                raise
            _print_refusal(*refusal)
            ctx.exit(1)
        click.echo(json_text(result.document) if as_json else result.text)
        ctx.exit(result.exit_code)


def command(name: str, *, example: str) -> Callable[[Callable[..., CommandResult]], Command]:
    """Return a decorator that makes a function the command ``name``, with an example in its help.

    Args:
        name: As typed after ``esccs-edge``.
        example: One or more lines as typed in a shell.
    """
    lines = "\n".join(f"  {line.strip()}" for line in example.strip().splitlines())
    epilog = f"\b\nExample:\n{lines}"
    return click.command(name, cls=Command, epilog=epilog, context_settings=CONTEXT_SETTINGS)


def json_text(document: Any) -> str:
    """Return standard JSON: NumPy numbers as numbers, paths as text, NaN and infinity as null."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return fspath(value) if isinstance(value, PathLike) else value


def _refusal_of(error: Exception) -> tuple[str, str] | None:
    """Return message and hint of an error a user can act on, or None for a fault of ours.

    Such are our own refusals, what the system denies (no such file, no space, no permission), and
    a package that one of our extras brings.
    """
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            return None
        error = MissingDependencyError.for_extra(package, EXTRAS[package], "this command")
    if isinstance(error, EsccsError):
        return error.message, error.hint
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return str(error), ""
    return None


def _print_refusal(message: str, hint: str) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
    if hint:
        shown = re.sub("`([^`]+)`", lambda typed: OPTIONS.get(typed[1], typed[0]), hint)
        click.echo(f"{click.style('hint:', fg='cyan')} {shown}", err=True)
