"""Simulated seasons of farmland as a data set of image series: for tests and demos.

Each place is one simulated season (`simulate.seasons`). Nothing in it is real, and images are drawn
from the classes: a score on it says whether a network learns, not how good it is on the ground.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.calendar import Calendar
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.sensors import SENTINEL1_POLARIZATIONS
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError

from ..simulate.seasons import BANDS, CALENDAR, CLASSES, Season, simulate_season

SIZE = 32
PLACES = 60


@dataclass(frozen=True)
class SimulatedSeasons:
    """A `SeriesDataset` of seasons that are drawn when asked for and kept.

    Attributes:
        seed: Of the places.
        count: Places; of every five three are for training.
    """

    seed: int = 0
    count: int = PLACES
    name: str = "simulated seasons"
    classes: tuple[str, ...] = CLASSES
    channels: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"optical": BANDS, "sar": SENTINEL1_POLARIZATIONS}
    )
    size: tuple[int, int, int] = (len(CALENDAR.starts), SIZE, SIZE)
    calendar: Calendar | None = CALENDAR
    simulated: tuple[str, ...] = ("optical", "sar", "clouds")
    contracts: Mapping[str, ModalitySpec] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """One place each."""
        return tuple(f"season {number}" for number in range(self.count))

    @property
    def splits(self) -> tuple[str, ...]:
        """Three of five places train."""
        return tuple(("train", "val", "train", "test", "train")[n % 5] for n in range(self.count))

    def __len__(self) -> int:
        return self.count

    def series(self, index: int) -> Mapping[str, Array]:
        """Return the images of a place; do not write to them."""
        season = _season(self.seed * 1000 + index)
        return {"optical": season.optical, "sar": season.sar}

    def target(self, index: int) -> npt.NDArray[np.int64]:
        """Return the crop of each pixel."""
        return _season(self.seed * 1000 + index).labels


@lru_cache(maxsize=PLACES)
def _season(seed: int) -> Season:
    return simulate_season(seed, SIZE)


def open_simulated_seasons(seed: str) -> SimulatedSeasons:
    """Open the places of a seed.

    Raises:
        InputError: It is not a whole number.
    """
    if not seed.isdecimal():
        raise InputError(f"the seed of the simulated seasons is {seed!r}, expected 0 or more")
    return SimulatedSeasons(int(seed))
