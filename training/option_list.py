"""All options of a task by their dotted names, read from the classes that hold them.

The command line, shell completion and docs/training-options.md show the same list.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from typing import Any, Literal, NamedTuple

from .options import RunOptions


class OptionRow(NamedTuple):
    """One option.

    Attributes:
        key: As in ``--set KEY=VALUE``; tables of a TOML file are joined by dots.
        kind: What its value is, in words.
        default: As TOML writes it; empty where nothing is the default.
        meaning: What it does, one sentence or more.
    """

    key: str
    kind: str
    default: str
    meaning: str


def option_list(options: type[RunOptions]) -> list[OptionRow]:
    """Return the options of a task in the order of its classes."""
    return _rows(options, options(), "")


def _rows(kind: type[Any], defaults: Any, prefix: str) -> list[OptionRow]:
    hints, meanings = typing.get_type_hints(kind), _meanings(kind)
    rows = []
    for field in dataclasses.fields(kind):
        key, value, hint = prefix + field.name, getattr(defaults, field.name), hints[field.name]
        if dataclasses.is_dataclass(value):
            rows += _rows(type(value), value, f"{key}.")
        else:
            rows.append(OptionRow(key, _in_words(hint), _as_toml(value), meanings[field.name]))
    return rows


def _meanings(kind: type[Any]) -> dict[str, str]:
    """Return field -> text of the ``Attributes:`` of a class and its bases; own texts win."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        _, _, attributes = text.partition("Attributes:\n")
        for block in re.split(r"\n(?=    \w+: )", "\n" + attributes):
            name, colon, meaning = block.strip().partition(": ")
            if colon:
                found[name] = " ".join(meaning.split())
    return found


def _in_words(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(_as_toml(part) for part in parts)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_in_words(part) for part in parts if part is not type(None))
    if origin is tuple:
        count = "list" if parts[-1] is Ellipsis else f"list of {len(parts)}"
        return f"{count}: {_in_words(parts[0])}"
    names = {bool: "true or false", int: "integer", float: "number", str: "text"}
    return names[hint]


def _as_toml(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"
