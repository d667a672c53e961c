"""JSON as RFC 8259 has it, and nothing that two readers could understand differently."""

from __future__ import annotations

import json
from typing import Any

#: Deeper documents would exhaust the stack of whoever walks through them.
MAX_DEPTH = 64


def parsed_json(content: str | bytes) -> Any:
    """Parse a document.

    Args:
        content: Text, or its bytes in UTF-8 without a byte order mark.

    Raises:
        ValueError: Not JSON, another encoding, a key twice in an object, NaN or Infinity, half of a
            surrogate pair, or nested deeper than `MAX_DEPTH`.
    """
    text = content if isinstance(content, str) else content.decode("utf-8")
    try:
        document = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_object_of_distinct_keys
        )
    except RecursionError as error:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from error
    _require_flat(document)
    json.dumps(document, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    return document


def _object_of_distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _refuse_constant(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


def _require_flat(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for value in level
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH}")
