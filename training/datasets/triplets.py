"""Real triplets of one place, SAR + cloudy + clear optical, and the chips cut from them.

Triplets carry no labels, so they teach without labels or are judged by an independent judge of the
clear image; see `training.judging.agreement`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Array, Floats, Mask
from esccs_edge.errors import InputError

from .dataset import RawPair

CHIP_SIZE = 64


@dataclass(frozen=True)
class Triplet:
    """One place: radar, and the optical image under clouds and without, all on one grid.

    Attributes:
        sar: ``(2, H, W)`` float32 dB, VV and VH; NaN where the instrument saw nothing.
        cloudy: ``(13, H, W)`` uint16 digital numbers.
        clear: The same of another day.
        cloud_mask: ``(H, W)`` bool, True where ``cloudy`` shows cloud; None where not known.
    """

    sar: Floats
    cloudy: Array
    clear: Array
    cloud_mask: Mask | None


class Triplets(Protocol):
    """N triplets, seen by index.

    Attributes:
        name: Short name for reports.
        ids: What names each triplet in its data set.
        groups: Place of each triplet, which a split must not divide.
        optical_channels: Channel names of both optical images.
        sar_channels: Channel names of the SAR image.
        has_masks: Whether triplets bring a cloud mask.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def ids(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def groups(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def optical_channels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def sar_channels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def has_masks(self) -> bool: ...  # noqa: D102

    def __len__(self) -> int: ...

    def triplet(self, index: int) -> Triplet:
        """Return one triplet.

        Raises:
            RasterError: A file cannot be read or does not match the others.
        """


class Corner(NamedTuple):
    """Where a chip was cut.

    Attributes:
        triplet: Position of the triplet.
        row: First row of the chip in the triplet.
        column: First column.
    """

    triplet: int
    row: int
    column: int


@dataclass(frozen=True)
class Chips:
    """Square chips of triplets as a `PairDataset`: cloudy optical + real SAR, by default unlabeled.

    Chips stand triplet by triplet, then row by row; what does not fill a chip is left out. Labels
    and splits are given anew with `dataclasses.replace`.

    Attributes:
        triplets: Where the pixels come from, all of the same height and width.
        size: Height and width of a chip in pixels.
        stride: Pixels from one chip to the next; below ``size`` they overlap.
        classes: Class names of ``known_labels``.
        known_labels: Class of each chip, -1 where unknown; empty: none is known.
        place_splits: Place -> split; places that are not named are in ``"train"``.
    """

    triplets: Triplets
    size: int = CHIP_SIZE
    stride: int = CHIP_SIZE
    classes: tuple[str, ...] = ()
    known_labels: tuple[int, ...] = ()
    place_splits: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.known_labels and len(self.known_labels) != len(self):
            raise InputError(
                f"{len(self.known_labels)} labels for {len(self)} chips of {self.name}"
            )

    def __len__(self) -> int:
        return len(self.corners)

    @cached_property
    def corners(self) -> tuple[Corner, ...]:
        """Where each chip was cut.

        Raises:
            InputError: The triplets are smaller than a chip.
        """
        height, width = self.triplets.triplet(0).clear.shape[1:]
        if min(height, width) < self.size:
            raise InputError(
                f"{self.name} is {height} x {width} pixels, expected {self.size} or more"
            )
        rows, columns = (
            range(0, length - self.size + 1, self.stride) for length in (height, width)
        )
        numbers = range(len(self.triplets))
        return tuple(Corner(i, row, column) for i in numbers for row in rows for column in columns)

    @property
    def name(self) -> str:
        """Name of the triplets."""
        return self.triplets.name

    @property
    def optical_channels(self) -> tuple[str, ...]:
        """Those of the triplets."""
        return self.triplets.optical_channels

    @property
    def sar_channels(self) -> tuple[str, ...]:
        """Those of the triplets."""
        return self.triplets.sar_channels

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each chip, -1 where unknown."""
        if not self.known_labels:
            return np.full(len(self), -1, np.int64)
        return np.array(self.known_labels, np.int64)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Place of each chip."""
        return tuple(self.triplets.groups[corner.triplet] for corner in self.corners)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Split of each chip, that of its place."""
        split_of = dict(self.place_splits)
        return tuple(split_of.get(place, "train") for place in self.groups)

    @cached_property
    def covers(self) -> npt.NDArray[np.float64]:
        """``(N,)`` share of cloud in the mask; NaN without one."""
        covers = np.full(len(self), np.nan)
        if self.triplets.has_masks:
            for index, corner in enumerate(self.corners):
                mask = self.triplets.triplet(corner.triplet).cloud_mask
                if mask is not None:
                    covers[index] = self._cut(mask, corner).mean()
        return covers

    def pair(self, index: int) -> RawPair:
        """Return (cloudy optical, SAR), raw; views, do not write to them."""
        corner = self.corners[index]
        triplet = self.triplets.triplet(corner.triplet)
        return self._cut(triplet.cloudy, corner), self._cut(triplet.sar, corner)

    def clear(self, index: int) -> Array:
        """Return the clear optical chip of the same ground, ``(13, size, size)``."""
        corner = self.corners[index]
        return self._cut(self.triplets.triplet(corner.triplet).clear, corner)

    def _cut(self, image: Array, corner: Corner) -> Array:
        _, row, column = corner
        return image[..., row : row + self.size, column : column + self.size]
