"""Answers per patch -> values per pixel, a few rows at a time. NumPy only.

Overlapping patches are averaged with window weights that fall off towards a patch's edges, so the
map has no block seams. What is averaged are probabilities, not labels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .tiling import Tiling, window_weights

#: Pixel rows blended at once; bounds memory for wide scenes with large patches.
ROWS_AT_ONCE = 16

Float = npt.NDArray[np.float32]


class Blender:
    """Weighted mean of patch values at every pixel.

    The weight of a patch is a product of a vertical and a horizontal factor. So a whole row of
    patches is first summed along the width, to one line of pixels per layer; pixel rows are then
    mixed from the few lines that reach them. Memory is those lines, whatever the scene's height.
    """

    def __init__(self, tiling: Tiling, layers: int) -> None:
        self._tiling = tiling
        self._layers = layers
        self._weights = window_weights(tiling.patch_size)
        self._lines: deque[tuple[int, Float]] = deque()  # first pixel row, (layers + 1, width)

    def add_row(self, i: int, values: Float, is_judged: npt.NDArray[np.bool_]) -> None:
        """Add the ``i``-th row of patches; rows come in order.

        Args:
            i: Which row of patches.
            values: ``(patches in a row, layers)``.
            is_judged: ``(patches in a row,)``; the others count for nothing.
        """
        tiling, size = self._tiling, self._tiling.patch_size
        line = np.zeros((self._layers + 1, max(tiling.width, size)), np.float32)
        for k in np.flatnonzero(is_judged):
            column = tiling.columns[k]
            line[:-1, column : column + size] += values[k][:, None] * self._weights
            line[-1, column : column + size] += self._weights
        while self._lines and self._lines[0][0] + size <= tiling.rows[i]:
            self._lines.popleft()
        self._lines.append((tiling.rows[i], line[:, : tiling.width]))

    def finished(self, i: int) -> Iterator[tuple[int, Float]]:
        """Yield ``(first pixel row, values)`` for the pixel rows that row ``i`` completed.

        Values are ``(layers, rows, width)``; NaN where no judged patch lies.
        """
        rows = self._tiling.finished_rows(i)
        for first in range(rows.start, rows.stop, ROWS_AT_ONCE):
            mixed = self._mixed(range(first, min(first + ROWS_AT_ONCE, rows.stop)))
            with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN promised above
                yield first, mixed[:-1] / mixed[-1]

    def _mixed(self, rows: range) -> Float:
        """Return ``(layers + 1, rows, width)``: weighted sums and, last, the sum of weights."""
        mixed = np.zeros((self._layers + 1, len(rows), self._tiling.width), np.float32)
        for (_, line), share in zip(self._lines, self._vertical(rows), strict=True):
            mixed += share[None, :, None] * line[:, None, :]
        return mixed

    def _vertical(self, rows: range) -> Float:
        """Return ``(lines, rows)``: how much each stored line counts in each pixel row."""
        firsts = np.array([first for first, _ in self._lines])
        offsets = np.array(rows)[None] - firsts[:, None]
        reached = (offsets >= 0) & (offsets < self._tiling.patch_size)
        weights = self._weights[np.where(reached, offsets, 0)]
        return np.where(reached, weights, np.float32(0))
