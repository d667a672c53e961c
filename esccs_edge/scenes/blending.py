"""Answers per patch -> values per pixel, a few rows at a time. NumPy only.

Overlapping patches are averaged with window weights that fall off toward a patch's edges, so the
map has no block seams. What is averaged are probabilities, not labels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from ..contracts.types import Bytes, Floats
from .tiling import Tiling, window_weights

#: Pixel rows blended at once; bounds memory for wide scenes with large patches.
ROWS_AT_ONCE = 16


class Blender:
    """Weighted mean of patch values at every pixel.

    The weight of a patch is a product of a vertical and a horizontal factor. Sums are kept for the
    pixel rows that the newest row of patches touches, so memory does not grow with the scene's
    height.

    Args:
        tiling: Where the patches lie.
        layers: Values per pixel.
    """

    def __init__(self, tiling: Tiling, layers: int) -> None:
        self._tiling = tiling
        self._uniform = _UniformPatches(tiling, layers)
        self._detailed: _DetailedPatches | None = None
        self._layers = layers

    def add(self, i: int, k: int, values: Floats) -> None:
        """Add a patch; rows come in order, in any order within a row.

        Args:
            i: Which row of patches.
            k: Which patch of the row.
            values: ``(layers,)`` for the whole patch, or ``(layers, size, size)``.
        """
        if values.ndim == 1:
            self._uniform.add(i, k, values)
            return
        if self._detailed is None:
            self._detailed = _DetailedPatches(self._tiling, self._layers)
        self._detailed.add(i, k, values)

    def finished(self, i: int) -> Iterator[tuple[int, Floats]]:
        """Yield ``(first pixel row, values)`` for the pixel rows that row ``i`` completed.

        Values are ``(layers, rows, width)``; NaN where no judged patch lies.
        """
        rows = self._tiling.finished_rows(i)
        for first in range(rows.start, rows.stop, ROWS_AT_ONCE):
            part = range(first, min(first + ROWS_AT_ONCE, rows.stop))
            sums = self._uniform.sums(part)
            if self._detailed is not None:
                sums += self._detailed.sums(i, part)
            with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN promised above
                yield first, sums[:-1] / sums[-1]


class _UniformPatches:
    """Patches with one value per layer: their sums are separable.

    A row of patches is first summed along the width, to one line of pixels per layer; pixel rows
    are then mixed from the few lines that reach them.
    """

    def __init__(self, tiling: Tiling, layers: int) -> None:
        self._tiling = tiling
        self._layers = layers
        self._weights = window_weights(tiling.patch_size)
        self._lines: deque[tuple[int, Floats]] = deque()  # first pixel row, (layers + 1, width)

    def add(self, i: int, k: int, values: Floats) -> None:
        line, column = self._line(self._tiling.rows[i]), self._tiling.columns[k]
        patch = slice(column, column + len(self._weights))
        line[:-1, patch] += values[:, None] * self._weights
        line[-1, patch] += self._weights

    def sums(self, rows: range) -> Floats:
        """Return ``(layers + 1, rows, width)``: weighted sums and, last, the sum of weights."""
        width = self._tiling.width
        mixed = np.zeros((self._layers + 1, len(rows), width), np.float32)
        for first, line in self._lines:
            mixed += self._vertical(first, rows)[None, :, None] * line[:, None, :width]
        return mixed

    def _line(self, row: int) -> Floats:
        """Return the line of the row of patches that begins at a pixel row."""
        size = self._tiling.patch_size
        if not self._lines or self._lines[-1][0] != row:
            while self._lines and self._lines[0][0] + size <= row:
                self._lines.popleft()
            padded = max(self._tiling.width, size)
            self._lines.append((row, np.zeros((self._layers + 1, padded), np.float32)))
        return self._lines[-1][1]

    def _vertical(self, first: int, rows: range) -> Floats:
        """Return ``(rows,)``: how much a line counts in each pixel row."""
        offsets = np.array(rows) - first
        reached = (offsets >= 0) & (offsets < self._tiling.patch_size)
        return np.where(reached, self._weights[np.where(reached, offsets, 0)], np.float32(0))


class _DetailedPatches:
    """Patches with a value per pixel, summed in a block as high as a patch that moves down."""

    def __init__(self, tiling: Tiling, layers: int) -> None:
        weights = window_weights(tiling.patch_size)
        self._weights = weights[:, None] * weights
        self._tiling = tiling
        self._first = 0  # pixel row at which the block begins
        width = max(tiling.width, tiling.patch_size)
        self._block = np.zeros((layers + 1, tiling.patch_size, width), np.float32)

    def add(self, i: int, k: int, values: Floats) -> None:
        self._move_to(self._tiling.rows[i])
        column = self._tiling.columns[k]
        patch = self._block[:, :, column : column + self._tiling.patch_size]
        patch[:-1] += values * self._weights
        patch[-1] += self._weights

    def sums(self, i: int, rows: range) -> Floats:
        """Return ``(layers + 1, rows, width)``, as `_UniformPatches.sums` does."""
        self._move_to(self._tiling.rows[i])
        inside = slice(rows.start - self._first, rows.stop - self._first)
        return self._block[:, inside, : self._tiling.width]

    def _move_to(self, row: int) -> None:
        down = row - self._first
        if down:
            kept = self._block[:, down:].copy()
            self._block[:, : kept.shape[1]] = kept
            self._block[:, kept.shape[1] :] = 0
            self._first = row


def winning(probabilities: Floats) -> tuple[Bytes, Floats]:
    """Return the first of the most probable classes at each pixel, and its probability.

    A tenth of the time of `argmax`, which goes through classes pixel by pixel.

    Args:
        probabilities: ``(classes, ...)``.

    Returns:
        ``(...)`` class numbers, without meaning where a probability is NaN; and NaN there.
    """
    highest = probabilities.max(axis=0)
    # Counted down from the number of classes, so that the first of equals is the largest.
    rank = np.zeros(highest.shape, np.uint8)
    for number, of_class in enumerate(probabilities):
        is_highest = (of_class == highest).view(np.uint8)
        np.maximum(rank, is_highest * np.uint8(len(probabilities) - number), out=rank)
    return len(probabilities) - rank, highest
