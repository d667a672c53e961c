"""So2Sat LCZ42: real Sentinel-1 + Sentinel-2 patches of cities with local climate zones.

Zhu et al., "So2Sat LCZ42", IEEE GRSM 2020; CC-BY 4.0. Patches of 32 x 32 pixels in HDF5 files; the
validation and test cities are not among those of the training file::

    training.h5       sen1 (N, 32, 32, 8)  sen2 (N, 32, 32, 10)  label (N, 17), one of them 1
    validation.h5     the same
    testing.h5        the same; the first version of the set has no labels for it
    training_geo.h5   epsg (N, 1), coord (N, 6), which begins with UTM x and y; the fourth version
                      has one for each file

``sen2`` holds reflectance of the ten bands of 10 and 20 m. ``sen1`` holds single-look complex
values and, in its fifth and sixth channel, intensities of VH and VV after a refined Lee filter;
these are taken, in dB. They carry less speckle than ground-range products, so a model of one is
no model of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.sensors import SENTINEL1_POLARIZATIONS
from esccs_edge.contracts.types import Floats
from esccs_edge.errors import InputError, MissingDependencyError

from .dataset import RawPair

CLASSES = (
    "CompactHighRise", "CompactMidRise", "CompactLowRise", "OpenHighRise", "OpenMidRise",
    "OpenLowRise", "LightweightLowRise", "LargeLowRise", "SparselyBuilt", "HeavyIndustry",
    "DenseTrees", "ScatteredTrees", "Bush", "LowPlants", "BareRock", "BareSoil", "Water",
)  # fmt: skip
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
FILES = {"train": "training.h5", "val": "validation.h5", "test": "testing.h5"}
#: Channels of ``sen1`` with filtered intensity, in the order VV, VH.
_INTENSITIES = (5, 4)
#: Patches of one square of this size in the UTM grid are one place.
PLACE_M = 100_000


@dataclass(frozen=True)
class So2SatDataset:
    """A `PairDataset` over the HDF5 files; pixels are read when asked for.

    Attributes:
        rows: File and row of each patch.
    """

    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    rows: tuple[tuple[Path, int], ...]
    name: str = "So2Sat LCZ42"
    classes: tuple[str, ...] = CLASSES
    optical_channels: tuple[str, ...] = BANDS
    sar_channels: tuple[str, ...] = SENTINEL1_POLARIZATIONS

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def covers(self) -> npt.NDArray[np.float64]:
        """Clear, as its authors made the images."""
        return np.zeros(len(self))

    def pair(self, index: int) -> RawPair:
        """Read one pair: ``(10, 32, 32)`` reflectance and ``(2, 32, 32)`` dB, float32.

        Intensities of 0 are NaN in dB.
        """
        path, row = self.rows[index]
        with _opened(path) as file:
            optical = np.asarray(file["sen2"][row], np.float32)
            radar = np.asarray(file["sen1"][row], np.float64)[..., _INTENSITIES]
        with np.errstate(divide="ignore", invalid="ignore"):
            decibels = np.where(radar > 0, 10 * np.log10(radar), np.nan)
        return _channels_first(optical), _channels_first(decibels.astype(np.float32))


def open_so2sat(folder: str | Path) -> So2SatDataset:
    """List the patches of a folder, split as its files are.

    Places are squares of 100 km where ``*_geo.h5`` lie beside the files; without them each file
    counts as one place, which leaves nothing to divide by place.

    Raises:
        InputError: No file of the set is there, or one is not laid out as published.
        MissingDependencyError: h5py is not installed.
    """
    root = Path(folder)
    found = {split: root / name for split, name in FILES.items() if (root / name).is_file()}
    if not found:
        raise InputError(f"{root} has none of the files {', '.join(FILES.values())}")
    labels: list[npt.NDArray[np.int64]] = []
    groups: list[str] = []
    splits: list[str] = []
    rows: list[tuple[Path, int]] = []
    for split, path in found.items():
        labels.append(_labels(path))
        count = len(labels[-1])
        groups += _places(path, count)
        splits += [split] * count
        rows += [(path, row) for row in range(count)]
    return So2SatDataset(np.concatenate(labels), tuple(groups), tuple(splits), tuple(rows))


def _labels(path: Path) -> npt.NDArray[np.int64]:
    """Classes of a file's patches; -1 where no class is marked."""
    with _opened(path) as file:
        shapes = {name: file[name].shape for name in ("sen1", "sen2", "label") if name in file}
        count = shapes.get("sen2", (0,))[0]
        expected: dict[str, tuple[int, ...]] = {
            "sen1": (count, 32, 32, 8),
            "sen2": (count, 32, 32, 10),
            "label": (count, len(CLASSES)),
        }
        if shapes != {name: expected[name] for name in ("sen1", "sen2", *shapes)}:
            raise InputError(f"{path} has arrays of {shapes}, expected {expected}")
        marks = np.asarray(file["label"]) if "label" in shapes else np.zeros(expected["label"])
    return np.where(marks.max(axis=1) > 0, marks.argmax(axis=1), -1).astype(np.int64)


def _places(path: Path, count: int) -> Iterator[str]:
    beside = path.with_name(f"{path.stem}_geo.h5")
    if not beside.is_file():
        return (path.stem for _ in range(count))
    with _opened(beside) as file:
        zones, centers = (np.asarray(file.get(name, ())) for name in ("epsg", "coord"))
    if len(zones) != count or centers.shape != (count, 6):
        raise InputError(
            f"{beside} has {len(zones)} zones and coord {centers.shape}, expected ({count}, 6)"
        )
    squares = (centers[:, :2] // PLACE_M).astype(int)
    return (
        f"EPSG:{int(zone)} {east} {north}"
        for zone, (east, north) in zip(zones.reshape(-1), squares, strict=True)
    )


def _channels_first(pixels: Floats) -> Floats:
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _opened(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError.for_extra("h5py", "train", "reading So2Sat") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is no HDF5 file: {error}") from error
