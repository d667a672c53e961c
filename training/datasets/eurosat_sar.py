"""EuroSAT with its SAR companion EuroSAT-SAR: real pairs, clear Sentinel-2 and Sentinel-1.

Helber et al., JSTARS 2019, and Wang et al., "Feature Guided Masked Autoencoder for Self-supervised
Learning in Remote Sensing", JSTARS 2024: 27,000 patches of 64 x 64 pixels, both sets with one
folder per class and equal file names::

    EuroSAT_MS/AnnualCrop/AnnualCrop_1.tif     13 bands, uint16, B8A last
    EuroSAT-SAR/AnnualCrop/AnnualCrop_1.tif    VV, VH in dB, float32
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.sensors import (
    EUROSAT_BANDS,
    SENTINEL1_POLARIZATIONS,
    SENTINEL2_L1C_BANDS,
)
from esccs_edge.errors import InputError

from .dataset import RawPair
from .index import reading_spec
from .splits import split_with_one_test_set

#: Folders looked for, in this order.
OPTICAL_FOLDERS = ("EuroSAT_MS", "EuroSAT-MS", "EuroSATallBands")
SAR_FOLDERS = ("EuroSAT-SAR", "EuroSAT_SAR")
#: Patches of one square of this size in the UTM grid are one place.
PLACE_M = 100_000
_BAND_ORDER = [EUROSAT_BANDS.index(band) for band in SENTINEL2_L1C_BANDS]


@dataclass(frozen=True)
class EurosatSarDataset:
    """A `PairDataset` over both folders; pixels are read when asked for."""

    name: str
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    paths: tuple[tuple[Path, Path], ...]
    optical_channels: tuple[str, ...] = SENTINEL2_L1C_BANDS
    sar_channels: tuple[str, ...] = SENTINEL1_POLARIZATIONS

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def covers(self) -> npt.NDArray[np.float64]:
        """Clear, as its authors chose the patches."""
        return np.zeros(len(self))

    def pair(self, index: int) -> RawPair:
        """Read one pair: ``(13, 64, 64)`` uint16 and ``(2, 64, 64)`` float32 dB.

        Raises:
            RasterError: A file cannot be read, or the two differ in size.
        """
        from esccs_edge.rasters.reader import read_sample

        optical, sar = self.paths[index]
        specs = {"optical": reading_spec(EUROSAT_BANDS), "sar": reading_spec(self.sar_channels)}
        found = read_sample({"optical": optical}, specs)["optical"]
        radar = read_sample({"sar": sar}, specs)["sar"]
        assert found is not None and radar is not None  # both were named
        if found.shape[1:] != radar.shape[1:]:
            raise InputError(f"{sar} is {radar.shape[1:]} pixels, expected {found.shape[1:]}")
        return found[_BAND_ORDER], np.asarray(radar, np.float32)


def open_eurosat_sar(folder: str | Path, seed: int = 0) -> EurosatSarDataset:
    """List the patches that both sets have, split by 100 km squares.

    Args:
        folder: Folder with one of `OPTICAL_FOLDERS` and one of `SAR_FOLDERS`.
        seed: Seed of the split.

    Raises:
        InputError: A folder is missing, or no patch is in both.
        RasterError: A patch cannot be opened to read where it lies.
    """
    root = Path(folder)
    optical, sar = (_existing(root, names) for names in (OPTICAL_FOLDERS, SAR_FOLDERS))
    partner = {path.relative_to(sar): path for path in sar.glob("*/*.tif")}
    pairs = tuple(
        (path, partner[path.relative_to(optical)])
        for path in sorted(optical.glob("*/*.tif"))
        if path.relative_to(optical) in partner
    )
    if not pairs:
        raise InputError(
            f"{optical} and {sar} have no patch in common", hint="Expected Forest/Forest_1.tif"
        )
    names = [path.parent.name for path, _ in pairs]
    classes = tuple(sorted(set(names)))
    labels = np.array([classes.index(name) for name in names], np.int64)
    groups = tuple(_place(path) for path, _ in pairs)
    splits = split_with_one_test_set(labels, groups, seed, every_class=False)
    return EurosatSarDataset("EuroSAT-MS + SAR", classes, labels, groups, splits, pairs)


def _existing(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise InputError(f"{root} has none of the folders {', '.join(names)}")


def _place(path: Path) -> str:
    """Name of the square that a patch lies in, such as ``"EPSG:32631 4 53"``."""
    from esccs_edge.rasters.raster_file import open_raster

    with open_raster(path, reading_spec(EUROSAT_BANDS)) as raster:
        corner = raster.grid.transform
        column, row = int(corner.c // PLACE_M), int(corner.f // PLACE_M)
        return f"{raster.grid.crs} {column} {row}"
