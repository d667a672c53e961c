"""Simulated landscapes with the class of every pixel: for tests and demos, never for accuracy.

Each place is one simulated scene (`simulate.scene`). Nothing in it is real, SAR is drawn from the
classes, and a score on it says whether a network learns, not how good it is on the ground.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.sensors import SENTINEL1_POLARIZATIONS, SENTINEL2_L1C_BANDS
from esccs_edge.errors import InputError

from ..simulate.scene import CLASSES, simulate_scene
from .map_dataset import MapSample

SIZE = 192
PLACES = 24


@dataclass(frozen=True)
class SimulatedMaps:
    """A `MapDataset` of scenes that are drawn when asked for and kept.

    Attributes:
        seed: Of the landscapes.
        count: Places; of every four two are for training.
    """

    seed: int = 0
    count: int = PLACES
    name: str = "simulated landscapes"
    classes: tuple[str, ...] = CLASSES
    optical_channels: tuple[str, ...] = SENTINEL2_L1C_BANDS
    sar_channels: tuple[str, ...] = SENTINEL1_POLARIZATIONS
    has_cloud_masks: bool = False
    simulated: tuple[str, ...] = ("optical", "sar")
    contracts: Mapping[str, ModalitySpec] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """One place each."""
        return tuple(f"landscape {number}" for number in range(self.count))

    @property
    def splits(self) -> tuple[str, ...]:
        """Two of four places train."""
        return tuple(("train", "val", "train", "test")[n % 4] for n in range(self.count))

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> MapSample:
        """Return a landscape under a clear sky."""
        return _landscape(self.seed * 1000 + index)


@lru_cache(maxsize=PLACES)
def _landscape(seed: int) -> MapSample:
    scene = simulate_scene(seed, SIZE, cover=0.0)
    return MapSample(scene.clear, scene.sar, scene.labels)


def open_simulated_maps(seed: str) -> SimulatedMaps:
    """Open the landscapes of a seed.

    Raises:
        InputError: It is not a whole number.
    """
    if not seed.isdecimal():
        raise InputError(f"the seed of the simulated landscapes is {seed!r}, expected 0 or more")
    return SimulatedMaps(int(seed))
