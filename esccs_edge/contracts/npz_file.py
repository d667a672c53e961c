"""Archives of arrays (``.npz``): read whole, or refused, whatever is wrong with them."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import BinaryIO

import numpy as np

from ..system.regular_file import require_regular
from .types import Array, PathLike


def read_npz(
    source: PathLike | bytes, needed: Collection[str] = (), also: Collection[str] | None = ()
) -> dict[str, Array]:
    """Read arrays of an archive.

    Args:
        source: The file, or its content.
        needed: Names of arrays that it has to hold.
        also: Names of those that it may hold; None for any.

    Raises:
        ValueError: It cannot be read, is damaged, or lacks an array. Zip, deflate and the headers
            of arrays each have errors of their own; none of them gets out of here.
    """
    try:
        with _opened(source) as stream, np.load(stream, allow_pickle=False) as stored:
            missing = sorted(set(needed) - set(stored.files))
            more = set(stored.files if also is None else also) - set(needed)
            names = [*needed, *(name for name in stored.files if name in more)]
            found = {} if missing else {name: stored[name] for name in names}
    except Exception as error:
        said = error.strerror if isinstance(error, OSError) else f"{error} ({type(error).__name__})"
        raise ValueError(f"it is no archive of arrays, or damaged: {said}") from error
    if missing:
        raise ValueError(f"it lacks the arrays {', '.join(missing)}")
    return found


def _opened(source: PathLike | bytes) -> BinaryIO:
    """Return a stream of our own: of a damaged file NumPy leaves its own open."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    require_regular(source)
    return open(source, "rb")
