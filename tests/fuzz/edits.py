"""Damage to bytes and to documents, told by plain numbers, so that every engine can draw it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

#: What stands where something else was expected: ends of ranges, other types, odd text.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400, 0.0, -0.0, 0.5,
    1e308, 5e-324, "", "0", "1", "a", "\0", "\n", "../x", "/etc/passwd", "\u202e", "\x1b[31m",
    "NODATA", "nan", "optical", "sar", [], [0], [[]], ["a", "a"], {}, {"": None}, {"a": {"a": {}}},
    [None] * 40, "x" * 300,
)  # fmt: skip
#: What may be written into bytes.
CHUNKS = (
    b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\x80" * 9,
    b"\xef\xbb\xbf", b"NaN", b"Infinity", b"-", b"1e999", b'"', b"\\ud800", b"{", b"[", b"}", b",",
    b"\n", b"\r", b";", b"\t", b"=", b"II*\x00", b"MM\x00*", b"\x89PNG", b"PK\x03\x04", b"<VRT",
    b"\x93NUMPY", b"\xc0\x80", b"[" * 80,
)  # fmt: skip
KINDS = ("set", "insert", "delete", "copy", "flip")


class Edit(NamedTuple):
    """One piece of damage.

    Attributes:
        kind: Which of `KINDS`, modulo their number.
        at: Where, modulo the number of places.
        value: What is put there, or taken from there.
    """

    kind: int
    at: int
    value: int


def drawn(dice: random.Random) -> list[Edit]:
    """Draw some edits, mostly few."""
    count = min(1 + int(dice.expovariate(0.7)), 12)
    return [Edit(*(dice.getrandbits(20) for _ in range(3))) for _ in range(count)]


def edited_bytes(content: bytes, edits: Sequence[Edit]) -> bytes:
    """Damage bytes."""
    out = bytearray(content)
    for edit in edits:
        at = edit.at % (len(out) + 1)
        kind = KINDS[edit.kind % len(KINDS)]
        if kind == "set":
            chunk = CHUNKS[edit.value % len(CHUNKS)]
            out[at : at + len(chunk)] = chunk
        elif kind == "insert":
            out[at:at] = CHUNKS[edit.value % len(CHUNKS)]
        elif kind == "delete":
            del out[at : at + 1 + edit.value % 64]
        elif kind == "copy":
            source = edit.value % (len(out) + 1)
            out[at:at] = out[source : source + 1 + edit.value % 32]
        elif at < len(out):
            out[at] ^= 1 << edit.value % 8
    return bytes(out)


def edited_json(content: bytes, edits: Sequence[Edit]) -> bytes:
    """Damage a JSON document: values replaced, inserted, taken away, exchanged, keys renamed."""
    holder = [json.loads(content)]
    for edit in edits:
        places = list(_places(holder))
        node, key = places[edit.at % len(places)]
        other, from_key = places[edit.value % len(places)]
        kind = KINDS[edit.kind % len(KINDS)]
        value = copy.deepcopy(VALUES[edit.value % len(VALUES)])
        if kind == "set":
            node[key] = value
        elif kind == "copy":
            node[key] = copy.deepcopy(other[from_key])
        elif node is holder:
            continue
        elif kind == "delete":
            del node[key]
        elif isinstance(node, list):
            node.insert(key, value)
        elif kind == "insert":
            node[str(value)] = value
        else:
            node[key + " "] = node.pop(key)
    return json.dumps(holder[0]).encode()


def _places(node: Any) -> Any:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        yield node, key
        if isinstance(value, (dict, list)):
            yield from _places(value)
