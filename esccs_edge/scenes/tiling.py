"""Where the patches of a scene lie, and how much each counts at each of its pixels. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def positions(length: int, patch_size: int, stride: int) -> list[int]:
    """Return where patches begin along one side of a scene, so that they cover all of it.

    The last patch ends at the scene's edge, so it may overlap its neighbor by more than the
    others; a side shorter than a patch has one position, 0.
    """
    last = max(length - patch_size, 0)
    return [*range(0, last, stride), last]


def window_weights(patch_size: int) -> npt.NDArray[np.float32]:
    """Return how much a patch counts along one side: a Hann window sampled at pixel centers.

    At half overlap neighbors sum to exactly 1, and no pixel has weight 0, so a pixel that a
    single patch covers is judged too.
    """
    centers = (np.arange(patch_size) + 0.5) / patch_size
    return (np.sin(np.pi * centers) ** 2).astype(np.float32)


@dataclass(frozen=True)
class Tiling:
    """The patches of one scene, in rows of patches from top to bottom.

    Attributes:
        height: Rows of pixels in the scene.
        width: Columns of pixels.
        patch_size: Side of a patch in pixels.
        rows: First pixel row of each row of patches.
        columns: First pixel column of each patch in a row.
    """

    height: int
    width: int
    patch_size: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def of(cls, height: int, width: int, patch_size: int, stride: int) -> Tiling:
        """Lay patches over a scene."""
        rows = positions(height, patch_size, stride)
        columns = positions(width, patch_size, stride)
        return cls(height, width, patch_size, tuple(rows), tuple(columns))

    @property
    def patches(self) -> int:
        """Number of patches."""
        return len(self.rows) * len(self.columns)

    def first_touching(self, i: int) -> int:
        """Return the first row of patches that reaches a pixel row which row ``i`` finishes."""
        if i == len(self.rows):
            return i
        return next(j for j, row in enumerate(self.rows) if row + self.patch_size > self.rows[i])

    def finished_rows(self, i: int) -> range:
        """Return the pixel rows that no later row of patches than ``i`` touches, and are new."""
        after = self.rows[i + 1] if i + 1 < len(self.rows) else self.height
        return range(self.rows[i], after)
