"""The driver's words for an error -> its number, for a binding that passes on the words alone.

The words are asked from the driver of this host, so that they are those which it would use.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from .probe import driver_library

#: ``CUresult`` ends at CUDA_ERROR_UNKNOWN.
_LAST = 999


def number_of_words(words: str) -> int | None:
    """Return the ``CUresult`` that this host's driver explains in these words; None if none."""
    return _words_of_driver().get(words)


@lru_cache(maxsize=1)
def _words_of_driver() -> dict[str, int]:
    library = driver_library()
    return {} if library is None else query_words(library)


def query_words(library: Any) -> dict[str, int]:
    """Ask a loaded driver library for the words of every error."""
    found: dict[str, int] = {}
    for number in range(1, _LAST + 1):
        text = ctypes.c_char_p()
        if not library.cuGetErrorString(number, ctypes.byref(text)) and text.value:
            found.setdefault(text.value.decode(errors="replace"), number)
    return found
