"""Copies of callers' pixels, in memory that is used again.

A queued sample is copied, so that its caller may reuse the arrays at once. Into fresh memory that
would take longer, since the kernel clears each of its pages when it is first written.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.values import Sample

#: Most memory kept for images of one shape and type, in bytes; what is beyond is freed.
KEPT_BYTES = 64 * 2**20

#: Shape and type of an image.
_Kind = tuple[tuple[int, ...], np.dtype[Any]]


class PixelMemory:
    """Makes copies and takes them back. Thread-safe."""

    def __init__(self) -> None:
        self._idle: dict[_Kind, deque[npt.NDArray[Any]]] = {}

    def copy(self, pixels: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return a C-contiguous copy of this type; floats beyond its range become infinite."""
        try:
            copy = self._shelf(pixels.shape, dtype).pop()
        except IndexError:
            copy = np.empty(pixels.shape, dtype)
        if pixels.dtype != dtype:
            with np.errstate(over="ignore"):
                np.copyto(copy, pixels, casting="unsafe")
        elif pixels.flags.c_contiguous:
            # NumPy would hand the interpreter over to another thread, and wait to get it back.
            copy.data.cast("B")[:] = pixels.data.cast("B")
        else:
            np.copyto(copy, pixels)
        return copy

    def release(self, sample: Sample) -> None:
        """Take back the arrays of a sample; they are overwritten by later copies."""
        for pixels in sample.pixels.values():
            if isinstance(pixels, np.ndarray):
                self._shelf(pixels.shape, pixels.dtype).append(pixels)

    def clear(self) -> None:
        """Free the memory that is not in use."""
        self._idle.clear()

    def _shelf(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> deque[npt.NDArray[Any]]:
        shelf = self._idle.get((shape, dtype))
        if shelf is None:
            size = math.prod(shape) * dtype.itemsize
            fresh = deque[npt.NDArray[Any]](maxlen=max(KEPT_BYTES // size, 1))
            shelf = self._idle.setdefault((shape, dtype), fresh)
        return shelf
