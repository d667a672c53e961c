"""What every command shares: its example, ``--json``, ``--debug``, errors and exit codes.

A command returns a `CommandResult` and never prints it. While it runs, standard output is
redirected to standard error, so that with ``--json`` it holds exactly one JSON document: the
result, or ``{"error": {"code", "message", "found", "expected", "hint"}}``.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike, fspath
from typing import Any

import click

from ..errors import EsccsError, MissingDependencyError, error_document
from ..system.atomic import DISK_FULL
from ..system.path_text import shown_text
from .ending import how_to_go_on, unwinding_on_signals
from .streams import open_missing_streams, spells_all_text

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
    "fastapi": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "multipart": "serve",
    "tensorrt": "trt",
    "tensorrt_rtx": "rtx",
    "tensorrt_rtx_bindings": "rtx",
}

#: What hints of the Python interface set in backticks -> its form on the command line.
OPTIONS = {
    "overwrite=True": "--overwrite",
    "sar_unit='linear'": "--sar-unit linear",
    "precision='auto'": "--precision auto",
    "dn_offset": "--baseline",
    "paths": "--input NAME=FILE",
    "classify_scene or segment_scene": "esccs-edge map",
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

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        """Read the words of the command; with ``--json`` wrong ones become a document too."""
        as_json = "--json" in args  # `args` is emptied while it is read
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            _print_document(as_json, "usage", error.format_message())
            raise

    def invoke(self, ctx: click.Context) -> None:
        """Run the command and print its result; a refusal becomes a message and exit code 1."""
        as_json, debug = ctx.params.pop("as_json"), ctx.params.pop("debug")
        try:
            if not open_missing_streams():
                raise OSError("standard output is closed, expected a place for the answer")
            with unwinding_on_signals(how_to_go_on(ctx.params)), redirect_stdout(sys.stderr):
                result: CommandResult = super().invoke(ctx)
            click.echo(_answer(result, as_json))
        except click.UsageError as error:
            _print_document(as_json, "usage", error.format_message())
            raise
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except Exception as error:
            refusal = _refusal_of(error)
            _print_document(as_json, *_stated(error, refusal))
            if debug or refusal is None:
                raise
            _print_refusal(*refusal)
            _forget_output()
            ctx.exit(1)
        ctx.exit(result.exit_code)


def command(
    name: str, *, help: str, example: str
) -> Callable[[Callable[..., CommandResult]], Command]:
    """Return a decorator that makes a function the command ``name``.

    Args:
        name: As typed after ``esccs-edge``.
        help: What it does, the first line in short. No docstring, which ``python -OO`` drops.
        example: One or more lines as typed in a shell.
    """
    lines = "\n".join(f"  {line.strip()}" for line in example.strip().splitlines())
    epilog = f"\b\nExample:\n{lines}"
    return click.command(
        name, cls=Command, help=help, epilog=epilog, context_settings=CONTEXT_SETTINGS
    )


def json_text(document: Any) -> str:
    """Return standard JSON: NumPy numbers as numbers, paths as text, NaN and infinity as null."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def _answer(result: CommandResult, as_json: bool) -> str:
    if not as_json:
        return result.text
    return _spelled(json_text(result.document))


def _spelled(text: str) -> str:
    return text if spells_all_text(sys.stdout) else json.dumps(json.loads(text), indent=2)


def _forget_output() -> None:
    """Let the end of the interpreter not try once more to write what could not be written."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, str):  # bytes of a file name that are no text are spelled by their number
        return shown_text(value)
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _plain(fspath(value)) if isinstance(value, PathLike) else value


def _refusal_of(error: Exception) -> tuple[str, str] | None:
    """Return message and hint of an error a user can act on, or None for a fault of ours.

    Such are our own refusals, what the system denies (a file, space, memory, a permission), and
    a package that one of our extras brings.
    """
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            return None
        if error.name != package and find_spec(package) is not None:
            return (
                f"this command needs another version of the package {package}: {error}",
                f'Run: pip install --upgrade "esccs-edge[{EXTRAS[package]}]"',
            )
        error = MissingDependencyError.for_extra(package, EXTRAS[package], "this command")
    if isinstance(error, EsccsError):
        return error.message, error.hint
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}", "Free space there, or write to another folder"
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return str(error), ""
    if isinstance(error, MemoryError):
        return "memory ran out", "Allow this process more of it, or take smaller batches or scenes"
    return None


def _stated(error: Exception, refusal: tuple[str, str] | None) -> tuple[str, str, str]:
    """Return code, message and hint for the document of an error."""
    if refusal is None:
        return "fault", f"{type(error).__name__}: {error}", "This is a fault of esccs-edge"
    code = error.code if isinstance(error, EsccsError) else "system"
    missing = isinstance(error, ModuleNotFoundError)
    return MissingDependencyError.code if missing else code, *refusal


def _print_document(as_json: bool, code: str, message: str, hint: str = "") -> None:
    """Put an error on standard output, if that is where a program looks for an answer."""
    if not as_json:
        return
    document = error_document(code, _as_typed(message), _as_typed(hint))
    try:
        click.echo(_spelled(json_text(document)))
    except OSError:
        pass  # the error may be that nothing can be written there; it is told on standard error


def _print_refusal(message: str, hint: str) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {_as_typed(message)}", err=True)
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {_as_typed(hint)}", err=True)


def _as_typed(text: str) -> str:
    return re.sub("`([^`]+)`", lambda named: OPTIONS.get(named[1], named[0]), text)
