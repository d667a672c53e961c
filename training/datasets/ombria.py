"""OMBRIA after floods: real Sentinel-1 + Sentinel-2 pictures with flood masks, cut to chips.

Drakonakis et al., "OmbriaNet", JSTARS 2022; Copernicus EMS. The pictures are 8-bit; which
Sentinel-2 bands the three optical channels show, and which polarization the SAR channel is, is
not stated by its authors, so the channels carry neutral names. The set has no license file: for
evaluation and research only, no weights trained on it may be shipped.
"""

from __future__ import annotations

import re
import tarfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError, MissingDependencyError, RasterError

from .dataset import MemoryDataset
from .splits import split_with_one_test_set

ARCHIVE = "pairs.tar"
CLASSES = ("dry", "flooded")
OPTICAL_CHANNELS = ("optical-1", "optical-2", "optical-3")
SAR_CHANNELS = ("sar-1",)
CHIP_SIZE = 64
#: Share of flooded pixels from which a chip is flooded, and below which it is dry.
FLOODED_FROM = 0.6
DRY_BELOW = 0.02
#: First picture of each flood. Pictures are numbered flood by flood, but where one ends is not
#: stated: these are the numbers at which ground, haze and stretch of all pictures change at once,
#: found by eye. Neighbors that could be one flood were left together, but for 438 and 600, which
#: look alike and are apart only because together they would be half of the set.
FIRST_PICTURES = (1, 33, 75, 133, 259, 314, 342, 400, 438, 600, 721, 737, 753)
#: Floods that are judged, by first picture: none of them validated an option of a benchmark.
JUDGED_FLOODS = (75, 400, 721, 737, 753)
_NUMBERED = re.compile(r"OmbriaS(?P<sensor>[12])/\w+/(?P<kind>AFTER|MASK)/\w+_(?P<id>\d+)\.png$")
#: Floods of a later year have folders of their own, as in the public repository of OMBRIA.
_BY_YEAR = re.compile(
    r"(?P<year>20\d\d)/(?P<flood>\w+)/Sentinel(?P<sensor>[12])/(?P<kind>AFTER|MASK)/"
    r"\w+_(?P<id>\d+)\.png$"
)


@dataclass(frozen=True, order=True)
class PictureName:
    """Which picture of which flood; ``flood`` is a year and a name, or empty where numbered."""

    flood: str
    number: int

    @property
    def group(self) -> str:
        """The flood, for a split by flood."""
        if self.flood:
            return self.flood
        return f"pictures {max(n for n in FIRST_PICTURES if n <= max(self.number, 1)):04d}+"


def open_ombria(folder: str | Path, seed: int = 0) -> MemoryDataset:
    """Read all chips that are clearly flooded or clearly dry.

    The set's own train and test folders interleave pictures of the same floods, so the split is
    made anew by flood. Floods of a later year (``YEAR/FLOOD/Sentinel2/AFTER/...``), where the
    archive holds some, are the test set alone; else it is `JUDGED_FLOODS`.

    Args:
        folder: Folder with ``pairs.tar``.
        seed: Seed of the split.

    Raises:
        InputError: ``pairs.tar`` is missing.
        RasterError: A picture is missing or has the wrong shape.
        MissingDependencyError: rasterio is not installed.
    """
    optical, sar, labels, pictures = _chips(Path(folder).resolve())
    groups = tuple(picture.group for picture in pictures)
    return MemoryDataset(
        name="OMBRIA", classes=CLASSES, labels=labels, groups=groups,
        splits=split_with_one_test_set(labels, groups, seed, judged=judged_floods(pictures)),
        optical_channels=OPTICAL_CHANNELS,
        sar_channels=SAR_CHANNELS, opticals=optical, sars=sar,
    )  # fmt: skip


def judged_floods(pictures: Sequence[PictureName]) -> set[str]:
    """Return the floods of the one test set: those of a later year, else `JUDGED_FLOODS`."""
    later = {picture.group for picture in pictures if picture.flood}
    judged = later or {PictureName("", first).group for first in JUDGED_FLOODS}
    return judged & {picture.group for picture in pictures}


@lru_cache(maxsize=1)
def _chips(folder: Path) -> tuple[Array, Array, npt.NDArray[np.int64], tuple[PictureName, ...]]:
    """Cut every picture into chips: optical (N, 3, S, S), SAR (N, 1, S, S), labels, pictures."""
    if not (folder / ARCHIVE).is_file():
        raise InputError(f"no {ARCHIVE} in {folder}", hint="Give the folder of the OMBRIA set")
    optical, sar, labels = [], [], []
    names: list[PictureName] = []
    for name, picture in sorted(read_pictures(folder / ARCHIVE).items()):
        if missing := {"optical", "sar", "mask"} - picture.keys():
            raise RasterError(f"{folder / ARCHIVE} lacks {sorted(missing)} of picture {name}")
        flooded = _cut(picture["mask"] > 0).mean(axis=(1, 2, 3))
        kept = (flooded > FLOODED_FROM) | (flooded < DRY_BELOW)
        optical.append(_cut(picture["optical"])[kept])
        sar.append(_cut(picture["sar"])[kept])
        labels.append((flooded[kept] > FLOODED_FROM).astype(np.int64))
        names.extend([name] * int(kept.sum()))
    stacks = np.concatenate(optical), np.concatenate(sar)
    for stack in stacks:
        stack.setflags(write=False)
    return *stacks, np.concatenate(labels), tuple(names)


def read_pictures(archive: Path) -> Mapping[PictureName, dict[str, Array]]:
    """Return the name of each picture -> ``optical (3, H, W)``, ``sar``, ``mask (1, H, W)``."""
    pictures: dict[PictureName, dict[str, Array]] = {}
    with tarfile.open(archive) as members:
        for member in members:
            match = _NUMBERED.search(member.name) or _BY_YEAR.search(member.name)
            if match and (stream := members.extractfile(member)) is not None:
                is_optical = match["sensor"] == "2"
                kind = "mask" if match["kind"] == "MASK" else "optical" if is_optical else "sar"
                pixels = _decode(member.name, stream.read(), 3 if kind == "optical" else 1)
                parts = match.groupdict()
                flood = f"{parts['year']} {parts['flood']}" if parts.get("year") else ""
                pictures.setdefault(PictureName(flood, int(match["id"])), {})[kind] = pixels
    return pictures


def _decode(name: str, content: bytes, channels: int) -> Array:
    try:
        from rasterio.io import MemoryFile
    except ImportError as error:
        raise MissingDependencyError.for_extra("rasterio", "geo", "Reading PNG files") from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Dataset has no geotransform")
        with MemoryFile(content) as memory, memory.open() as raster:
            pixels: Array = raster.read()
    if pixels.dtype != np.uint8 or pixels.shape[0] != channels:
        raise RasterError(f"{name} is {pixels.shape} {pixels.dtype}, expected {channels} of uint8")
    return pixels


def _cut(picture: Array) -> Array:
    """``(C, H, W)`` -> ``(N, C, CHIP_SIZE, CHIP_SIZE)``, row by row; the rest is dropped."""
    channels, height, width = picture.shape
    rows, columns = height // CHIP_SIZE, width // CHIP_SIZE
    whole = picture[:, : rows * CHIP_SIZE, : columns * CHIP_SIZE]
    tiles = whole.reshape(channels, rows, CHIP_SIZE, columns, CHIP_SIZE)
    return tiles.transpose(1, 3, 0, 2, 4).reshape(-1, channels, CHIP_SIZE, CHIP_SIZE)
