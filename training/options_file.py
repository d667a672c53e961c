"""Options of a training run from a TOML file or from plain values, each checked by its type."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from esccs_edge.errors import InputError

from .options import TrainOptions, require

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def read_options(path: str | Path, **overrides: Any) -> TrainOptions:
    """Read a TOML file; its tables are the nested options.

    Args:
        path: The file.
        overrides: Top-level values that win over the file.

    Raises:
        InputError: Not readable, not TOML, an unknown key, or a value of the wrong type; the
            message names the key.
    """
    file = Path(path)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not TOML: {error}") from None
    try:
        return options_from({**document, **overrides})
    except InputError as error:
        raise InputError(f"{file}: {error.message}", hint=error.hint) from None


def options_from(document: Mapping[str, Any]) -> TrainOptions:
    """Build options from nested plain values; see `read_options`."""
    return _build(TrainOptions, document, "")


def _build(cls: type[T], document: Mapping[str, Any], where: str) -> T:
    hints = typing.get_type_hints(cls)
    if unknown := sorted(document.keys() - hints.keys()):
        raise InputError(
            f"unknown option {where + unknown[0]!r}, expected among {', '.join(hints)}",
            hint="Check the spelling",
        )
    values = {key: _value(hints[key], raw, where + key) for key, raw in document.items()}
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{where or 'options'}: {error.message}") from None


def _value(hint: Any, raw: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(raw, Mapping):
            raise InputError(f"option {where!r} is {raw!r}, expected a table")
        return _build(typing.cast(type, hint), raw, where + ".")
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        require(raw in choices, where, raw, "one of " + ", ".join(map(repr, choices)))
        return raw
    if origin is tuple:
        return _tuple(hint, raw, where)
    if hint is float:
        require(_is_number(raw), where, raw, "a number")
        return float(raw)
    if hint is int:
        require(isinstance(raw, int) and not isinstance(raw, bool), where, raw, "an integer")
        return raw
    require(isinstance(raw, hint), where, raw, f"a {_NAMES[hint]}")
    return raw


_NAMES: Mapping[type, str] = types.MappingProxyType({str: "string", bool: "boolean"})


def _tuple(hint: Any, raw: Any, where: str) -> tuple[Any, ...]:
    items = typing.get_args(hint)
    is_open = items[-1] is Ellipsis
    fits = isinstance(raw, (list, tuple)) and (len(raw) > 0 if is_open else len(raw) == len(items))
    require(fits, where, raw, "a list" if is_open else f"a list of {len(items)} values")
    hints = [items[0]] * len(raw) if is_open else items
    return tuple(
        _value(h, r, f"{where}[{i}]") for i, (h, r) in enumerate(zip(hints, raw, strict=True))
    )


def _is_number(raw: Any) -> bool:
    return isinstance(raw, (int, float)) and not isinstance(raw, bool)
