"""What a run left in its folder for later: read whole, or refused with the way to go on."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from esccs_edge.contracts.npz_file import read_npz
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError


def kept_arrays(
    path: Path, needed: Collection[str], also: Collection[str] | None = (), *, record: Path
) -> dict[str, Array]:
    """Read arrays; see `read_npz`.

    Args:
        path: The archive.
        needed: Names of arrays that it has to hold.
        also: Names of those that it may hold, None for any.
        record: File by which the run counts as finished.

    Raises:
        InputError: It cannot be read, is damaged, or lacks an array.
    """
    try:
        return read_npz(path, needed, also)
    except ValueError as error:
        raise InputError(f"cannot read {path}: {error}", hint=_made_again(record)) from error


def kept_json(path: Path, hint: str = "") -> dict[str, Any]:
    """Read the object that a run wrote about itself.

    Args:
        path: The file.
        hint: What to do where it cannot be read, if removing it is not the way.

    Raises:
        InputError: It cannot be read, or is no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}", hint=hint or _made_again(path)) from error
    if not isinstance(found, dict):
        raise InputError(
            f"{path} holds a {type(found).__name__}, expected an object",
            hint=hint or _made_again(path),
        )
    return found


def _made_again(record: Path) -> str:
    """Return what to do about a damaged file of the run that ``record`` calls finished."""
    return f"Remove {record} and give the same command with --resume: that part is made again"
