"""EuroSAT-MS: real Sentinel-2 L1C patches of ten scene classes, cloud-free; it has no SAR.

Helber et al., "EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and Land Cover
Classification", JSTARS 2019. The folder holds ``index.csv`` (file, class, lon, lat, cell) and
either ``patches.tar.xz`` or the GeoTIFFs themselves.
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.sensors import EUROSAT_BANDS, SENTINEL2_L1C_BANDS
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError, MissingDependencyError, RasterError

from .dataset import MemoryDataset
from .splits import split_by_group, split_with_one_test_set

PATCH_SIZE = 64
ARCHIVE = "patches.tar.xz"
#: Seeds whose validation cells chose the options in `training/configs`.
CHOSEN_ON = (10, 11)
_BAND_ORDER = [EUROSAT_BANDS.index(band) for band in SENTINEL2_L1C_BANDS]


def open_eurosat(folder: str | Path, seed: int = 0) -> MemoryDataset:
    """Read the whole set, bands in `SENTINEL2_L1C_BANDS` order, split by the ``cell`` column.

    Args:
        folder: Folder with ``index.csv`` and the patches.
        seed: Seed of the split.

    Raises:
        InputError: ``index.csv`` is missing or lacks a column.
        RasterError: A listed patch is missing or is not 13 x 64 x 64 uint16.
        MissingDependencyError: rasterio is not installed.
    """
    rows = _read_rows(Path(folder))
    names = tuple(row["file"] for row in rows)
    classes = tuple(sorted({row["class"] for row in rows}))
    labels = np.array([classes.index(row["class"]) for row in rows], np.int64)
    groups = tuple(row["cell"] for row in rows)
    return MemoryDataset(
        name="EuroSAT-MS", classes=classes, labels=labels, groups=groups,
        splits=split_with_one_test_set(labels, groups, seed, spared=chosen_on(labels, groups)),
        optical_channels=SENTINEL2_L1C_BANDS, sar_channels=(),
        opticals=_read_patches(Path(folder).resolve(), names), sars=None,
    )  # fmt: skip


def chosen_on(labels: npt.NDArray[np.int64], groups: tuple[str, ...]) -> set[str]:
    """Return the cells on which options of the benchmarks were chosen, which may not judge them.

    They were the validation cells of two seeds in the days when the test cells changed with it.
    """
    return {
        group
        for seed in CHOSEN_ON
        for group, split in zip(groups, split_by_group(labels, groups, seed), strict=True)
        if split == "val"
    }


def _read_rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "index.csv"
    if not path.is_file():
        raise InputError(
            f"no index.csv in {folder}", hint="Give the folder that holds the EuroSAT-MS patches"
        )
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"file", "class", "cell"} <= rows[0].keys():
        raise InputError(f"{path} is empty or lacks a column, expected file, class, lon, lat, cell")
    return rows


@lru_cache(maxsize=1)
def _read_patches(folder: Path, names: tuple[str, ...]) -> npt.NDArray[np.uint16]:
    """Decode all patches once per process; the array is read-only since callers share it."""
    place = {str(PurePosixPath(name)): i for i, name in enumerate(names)}
    patches = np.zeros((len(names), len(EUROSAT_BANDS), PATCH_SIZE, PATCH_SIZE), np.uint16)
    seen = set()
    for name, content in _stored_files(folder, names):
        if (index := place.get(name)) is not None:
            patches[index] = _decode(name, content)[_BAND_ORDER]
            seen.add(name)
    if missing := sorted(place.keys() - seen):
        raise RasterError(f"{folder} lacks {len(missing)} listed patches, such as {missing[0]}")
    patches.setflags(write=False)
    return patches


def _stored_files(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    archive = folder / ARCHIVE
    if not archive.is_file():
        for name in names:
            if (folder / name).is_file():
                yield str(PurePosixPath(name)), (folder / name).read_bytes()
        return
    with tarfile.open(archive, "r|xz") as members:
        for member in members:
            if (stream := members.extractfile(member)) is not None:
                yield str(PurePosixPath(member.name)), stream.read()


def _decode(name: str, content: bytes) -> Array:
    try:
        from rasterio.io import MemoryFile
    except ImportError as error:
        raise MissingDependencyError.for_extra("rasterio", "geo", "Reading GeoTIFFs") from error
    with MemoryFile(content) as memory, memory.open() as raster:
        pixels: Array = raster.read()
    expected = (len(EUROSAT_BANDS), PATCH_SIZE, PATCH_SIZE)
    if pixels.shape != expected or pixels.dtype != np.uint16:
        raise RasterError(f"{name} is {pixels.shape} {pixels.dtype}, expected {expected} uint16")
    return pixels
