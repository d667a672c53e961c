"""Protobuf messages of a closed set of kinds, in the one spelling that serializers write.

A parser that is generated from a schema skips what it does not know, cuts numbers that are too
long, and merges what stands twice. Whoever reads the same bytes by other rules sees another
message; so here everything that two readers could take differently is refused. Format:
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["varint", "fixed32", "fixed64", "bytes", "text"]

_WIRE: dict[Kind, int] = {"varint": 0, "fixed64": 1, "bytes": 2, "text": 2, "fixed32": 5}
_WIDTH: dict[int, int] = {1: 8, 5: 4}


@dataclass(frozen=True)
class Field:
    """One field of a kind of message.

    Attributes:
        name: What it is called in the result.
        kind: How one value is written; ``"bytes"`` also for messages, ``"text"`` is UTF-8.
        message: The kind of message that it holds, or None.
        many: Whether it may stand more than once; numbers may then be packed into one value too.
    """

    name: str
    kind: Kind
    message: str | None = None
    many: bool = False


#: Kind of message -> field number -> field.
Schema = Mapping[str, Mapping[int, Field]]
#: Field name -> number, bytes, text or message; a list of these where it may stand more than once.
Message = dict[str, Any]


def parsed(content: memoryview, kind: str, schema: Schema) -> Message:
    """Parse a message with all below it.

    Packed numbers stay bytes in the list of their field, except varints, which become numbers.

    Raises:
        ValueError: A field that the schema does not name, or that stands twice where it must not; a
            number that is not written in its shortest form or has more than 64 bits; text that is
            not UTF-8; or a part that is longer than the whole.
    """
    fields = schema[kind]
    found: Message = {field.name: [] for field in fields.values() if field.many}
    for number, wire, value in _values(content):
        field = fields.get(number)
        if field is None:
            raise ValueError(f"{kind} has a field {number}, which no plain model has")
        if wire == _WIRE[field.kind]:
            new = [_understood(value, field, schema)]
        elif field.many and wire == 2:
            new = list(_varints(value)) if field.kind == "varint" else [value]
        else:
            raise ValueError(f"{kind}.{field.name} is written as wire type {wire}")
        if field.many:
            found[field.name] += new
        elif field.name in found:
            raise ValueError(f"{kind}.{field.name} stands twice")
        else:
            found[field.name] = new[0]
    return found


def _understood(value: Any, field: Field, schema: Schema) -> Any:
    if field.kind == "text":
        return bytes(value).decode()
    return value if field.message is None else parsed(value, field.message, schema)


def _values(content: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yield field number, wire type and value: a number for a varint, bytes for everything else."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"field number {number} is out of range")
        if wire == 0:
            value, at = _varint(content, at)
            yield number, wire, value
            continue
        if wire == 2:
            length, at = _varint(content, at)
        elif wire in _WIDTH:
            length = _WIDTH[wire]
        else:
            raise ValueError(f"unknown wire type {wire}")
        if length > len(content) - at:
            raise ValueError("a field is longer than what holds it")
        yield number, wire, content[at : at + length]
        at += length


def _varints(content: memoryview) -> Iterator[int]:
    at = 0
    while at < len(content):
        value, at = _varint(content, at)
        yield value


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """Return an unsigned number of up to 64 bits and where the next byte is."""
    value = shift = 0
    while True:
        if at == len(content):
            raise ValueError("a number is cut off")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if value >= 1 << 64 or byte == 0 and shift:
        raise ValueError("a number is longer than it need be, or than 64 bits")
    return value, at
