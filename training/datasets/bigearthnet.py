"""BigEarthNet-MM: real Sentinel-1 + Sentinel-2 L2A pairs of Europe with CORINE labels.

Sumbul et al., "BigEarthNet-MM", IEEE GRSM 2021; CDLA-Permissive-1.0. A folder holds, at any depth,
one folder per patch and sensor, with one GeoTIFF per band and ``*_labels_metadata.json``; that of
Sentinel-1 names its partner. Patches are 1.2 km wide: 120, 60 or 20 pixels by band, all brought to
120. Sentinel-2 is L2A, so a model of L1C bands, B10 among them, needs another training.

A patch has several CORINE labels without their shares, so it gets a class only where all of them
mean the same class here (`CLASS_OF_CORINE`); the others are unlabeled. Classes are named as in
EuroSAT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.sensors import SENTINEL1_POLARIZATIONS, SENTINEL2_L2A_BANDS
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError

from .dataset import SPLITS, RawPair
from .index import reading_spec
from .splits import split_with_one_test_set

_CORINE_OF_CLASS = {
    "AnnualCrop": (
        "Non-irrigated arable land", "Permanently irrigated land", "Rice fields",
    ),
    "Forest": ("Broad-leaved forest", "Coniferous forest", "Mixed forest"),
    "HerbaceousVegetation": (
        "Natural grassland", "Moors and heathland", "Sclerophyllous vegetation",
        "Transitional woodland/shrub",
    ),
    "Highway": ("Road and rail networks and associated land",),
    "Industrial": ("Industrial or commercial units",),
    "Pasture": ("Pastures",),
    "PermanentCrop": ("Vineyards", "Fruit trees and berry plantations", "Olive groves"),
    "Residential": ("Continuous urban fabric", "Discontinuous urban fabric"),
    "River": ("Water courses",),
    "SeaLake": ("Water bodies", "Coastal lagoons", "Estuaries", "Sea and ocean"),
}  # fmt: skip
#: CORINE label -> class; labels that are mixtures or have no class in EuroSAT are not here.
CLASS_OF_CORINE: Mapping[str, str] = MappingProxyType(
    {corine: name for name, labels in _CORINE_OF_CLASS.items() for corine in labels}
)
CLASSES = tuple(_CORINE_OF_CLASS)
METADATA = "_labels_metadata.json"
_TILE = re.compile(r"_T(\d{2}[A-Z]{3})_")


@dataclass(frozen=True)
class BigEarthNetDataset:
    """A `PairDataset` over patch folders; pixels are read when asked for."""

    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    folders: tuple[tuple[Path, Path], ...]
    name: str = "BigEarthNet-MM"
    classes: tuple[str, ...] = CLASSES
    optical_channels: tuple[str, ...] = SENTINEL2_L2A_BANDS
    sar_channels: tuple[str, ...] = SENTINEL1_POLARIZATIONS

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def covers(self) -> npt.NDArray[np.float64]:
        """Not known."""
        return np.full(len(self), np.nan)

    def pair(self, index: int) -> RawPair:
        """Read one pair: ``(12, 120, 120)`` uint16 and ``(2, 120, 120)`` float32 dB.

        Raises:
            RasterError: A band is missing or cannot be read.
        """
        optical, sar = self.folders[index]
        return _read(optical, self.optical_channels), _read(sar, self.sar_channels)


def open_bigearthnet(folder: str | Path, seed: int = 0) -> BigEarthNetDataset:
    """List the Sentinel-2 patches that have a Sentinel-1 partner, grouped by Sentinel-2 tile.

    Splits are those of ``train.csv``, ``val.csv`` and ``test.csv`` in the folder, whose lines name
    a patch each; without them, tiles are dealt out by seed.

    Raises:
        InputError: No patch has a partner, or a metadata file is not readable.
    """
    root = Path(folder)
    metadata = {path: _metadata(path) for path in sorted(root.rglob(f"*{METADATA}"))}
    optical = {p.parent.name: p for p, m in metadata.items() if "corresponding_s2_patch" not in m}
    partner = {
        found["corresponding_s2_patch"]: path.parent
        for path, found in metadata.items()
        if found.get("corresponding_s2_patch") in optical
    }
    names = [name for name in optical if name in partner]
    if not names:
        raise InputError(
            f"{root} has {len(metadata)} patches of BigEarthNet but no Sentinel-2 patch with a "
            "Sentinel-1 partner",
            hint=f"Expected folders with *{METADATA}, those of Sentinel-1 naming their partner",
        )
    labels = np.array([_label(metadata[optical[name]]["labels"]) for name in names], np.int64)
    groups = tuple(_tile(name, metadata[optical[name]]) for name in names)
    folders = tuple((optical[name].parent, partner[name]) for name in names)
    return BigEarthNetDataset(labels, groups, _splits(root, names, labels, groups, seed), folders)


def _label(corine: list[str]) -> int:
    """Position of the class that all labels of a patch mean; -1 if there is no such class."""
    found = {CLASS_OF_CORINE.get(label, "") for label in corine}
    name = found.pop() if len(found) == 1 else ""
    return CLASSES.index(name) if name else -1


def _metadata(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("labels"), list):
            return found
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable: {error}") from error
    raise InputError(f"{path} has no list of labels")


def _tile(name: str, metadata: Mapping[str, Any]) -> str:
    """Sentinel-2 tile; without one in the metadata a patch is a group of its own."""
    match = _TILE.search(str(metadata.get("tile_source", "")))
    return match[1] if match else name


def _splits(
    root: Path,
    names: list[str],
    labels: npt.NDArray[np.int64],
    groups: tuple[str, ...],
    seed: int,
) -> tuple[str, ...]:
    listed = {split: root / f"{split}.csv" for split in SPLITS}
    if not all(path.is_file() for path in listed.values()):
        known = np.where(labels < 0, len(CLASSES), labels)
        return split_with_one_test_set(known, groups, seed, every_class=False)
    split_of = {
        cell.strip(): split
        for split, path in listed.items()
        for line in path.read_text(encoding="utf-8").splitlines()
        for cell in line.split(",")
    }
    return tuple(split_of.get(name, "") for name in names)


def _read(folder: Path, channels: tuple[str, ...]) -> Array:
    from esccs_edge.rasters.band_files import read_band_files

    files = {path.stem.rpartition("_")[2]: path for path in sorted(folder.glob("*.tif"))}
    return read_band_files(files, reading_spec(channels))
