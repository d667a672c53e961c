"""Plain values from JSON or TOML -> frozen dataclasses, each value checked by its annotation."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from ..errors import EsccsError

T = TypeVar("T")

#: Larger integers are not exact in the JSON of other languages.
_LARGEST_INTEGER = 2**63


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Builds dataclasses; refuses unknown, missing and mistyped fields.

    Attributes:
        error: What is raised.
        what: What a field is called in messages, such as ``"manifest field"``.
        where_listed: What to do about a field that is not known.
    """

    error: type[EsccsError]
    what: str
    where_listed: str = "Check the spelling"

    def build(self, cls: type[T], document: object, where: str = "") -> T:
        """Make a dataclass from an object with string keys.

        Args:
            cls: A dataclass whose annotations are dataclasses, ``Literal``, tuples, mappings with
                string keys, ``str``, ``int``, ``float``, ``bool``, ``Any``, or a union of these
                and None.
            document: As parsed.
            where: Path of the object in its document, for messages.
        """
        if not isinstance(document, Mapping):
            raise self._wrong(where or "document", document, "an object")
        hints = typing.get_type_hints(cls)
        prefix = f"{where}." if where else ""
        if unknown := sorted(set(document) - set(hints)):
            raise self.error(
                f"unknown {self.what} {prefix + str(unknown[0])!r}, expected among "
                f"{', '.join(hints)}",
                hint=self.where_listed,
            )
        values = {key: self.value(hints[key], raw, prefix + key) for key, raw in document.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise self.error(f"{where or 'document'} is incomplete: {error}") from error
        except self.error as error:  # raised by the dataclass itself, which knows no path
            message = f"{where}: {error.message}" if where else error.message
            raise self.error(message, hint=error.hint) from error

    def value(self, hint: Any, raw: Any, where: str) -> Any:
        """Return a value in the type that an annotation asks for."""
        if hint is Any:
            return raw
        if dataclasses.is_dataclass(hint):
            return self.build(typing.cast(type, hint), raw, where)
        origin = typing.get_origin(hint)
        if origin in (typing.Union, types.UnionType):
            options = typing.get_args(hint)
            if raw is None and type(None) in options:
                return None
            wanted = [option for option in options if option is not type(None)]
            return self.value(type(raw) if type(raw) in wanted else wanted[0], raw, where)
        if origin is Literal:
            choices = typing.get_args(hint)
            fits = any(type(raw) is type(one) and raw == one for one in choices)
            self._require(fits, where, raw, "one of " + ", ".join(map(repr, choices)))
            return raw
        if origin is tuple:
            return self._tuple(typing.get_args(hint), raw, where)
        if origin is not None and issubclass(origin, Mapping):
            return self._mapping(typing.get_args(hint)[1], raw, where)
        return self._plain(hint, raw, where)

    def _plain(self, hint: Any, raw: Any, where: str) -> Any:
        if hint is float:
            self._require(_is_number(raw), where, raw, "a finite number")
            return float(raw)
        if hint is int:
            self._require(_is_integer(raw), where, raw, "an integer")
            return raw
        names = {str: "a string", bool: "true or false"}
        self._require(isinstance(raw, hint), where, raw, names[hint])
        return raw

    def _tuple(self, hints: tuple[Any, ...], raw: Any, where: str) -> tuple[Any, ...]:
        is_open = hints[-1] is Ellipsis
        fits = isinstance(raw, (list, tuple))
        fits = fits and (len(raw) > 0 if is_open else len(raw) == len(hints))
        self._require(fits, where, raw, "a list" if is_open else f"a list of {len(hints)} values")
        each = [hints[0]] * len(raw) if is_open else hints
        return tuple(
            self.value(hint, item, f"{where}[{i}]")
            for i, (hint, item) in enumerate(zip(each, raw, strict=True))
        )

    def _mapping(self, hint: Any, raw: Any, where: str) -> dict[str, Any]:
        fits = isinstance(raw, Mapping) and all(isinstance(key, str) for key in raw)
        self._require(fits, where, raw, "an object")
        return {key: self.value(hint, item, f"{where}.{key}") for key, item in raw.items()}

    def _require(self, condition: bool, where: str, raw: Any, expected: str) -> None:
        if not condition:
            raise self._wrong(where, raw, expected)

    def _wrong(self, where: str, raw: Any, expected: str) -> EsccsError:
        return self.error(f"{self.what} {where!r} is {raw!r}, expected {expected}")


def _is_integer(raw: Any) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) < _LARGEST_INTEGER


def _is_number(raw: Any) -> bool:
    return _is_integer(raw) or isinstance(raw, float) and math.isfinite(raw)
