"""SEN12MS-CR: real triplets of Sentinel-1, cloudy and clear Sentinel-2, 256 x 256 pixels each.

Ebel et al., "Multisensor Data Fusion for Cloud Removal in Global and All-Season Sentinel-2
Imagery", TGRS 2021; CC-BY 4.0. Sentinel-1 is VV, VH in dB, Sentinel-2 is L1C with 13 bands in
sensor order. Three forms are read:

* as published, at any depth of folders; the files of a triplet share season, scene and patch::

    ROIs1158_spring_s1/s1_1/ROIs1158_spring_s1_1_p30.tif
    ROIs1158_spring_s2/s2_1/ROIs1158_spring_s2_1_p30.tif
    ROIs1158_spring_s2_cloudy/s2_cloudy_1/ROIs1158_spring_s2_cloudy_1_p30.tif

  A cloud mask of one's own (1: cloud) may stand beside them as ``*_cloud_mask_1_p30.tif``,

* three folders ``s1``, ``s2_cloudy`` and ``s2_cloudfree`` with equal file names, and maybe
  ``cloud_mask`` as a fourth,
* ``triplets.npz`` with ``id``, ``s1`` (int16, dB x 100), ``cloudy``, ``clear`` (uint16) and, where
  known, ``mask`` (1: cloud) and ``place``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from esccs_edge.contracts.npz_file import read_npz
from esccs_edge.contracts.sensors import SENTINEL1_POLARIZATIONS, SENTINEL2_L1C_BANDS
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError, RasterError

from .index import MAX_CACHED_BYTES, reading_spec
from .triplets import Triplet

ARCHIVE = "triplets.npz"
FOLDERS = ("s1", "s2_cloudy", "s2_cloudfree")
MASK_FOLDER = "cloud_mask"
#: Sensor part of a published file name -> what the file is.
_KINDS = MappingProxyType(
    {
        "_s1": "s1",
        "_s2_cloudy": "s2_cloudy",
        "_s2": "s2_cloudfree",
        "_cloud_mask": MASK_FOLDER,
        "": "any",
    }
)
_PATCH = re.compile(
    r"(?P<season>ROIs\d+_[a-z]+)(?P<kind>_s1|_s2_cloudy|_s2|_cloud_mask|)_(?P<scene>\d+)_p(?P<patch>\d+)$"
)
DB_PER_UNIT = 0.01
#: Numbers of `ARCHIVE` were given place by place; a jump by more than this begins a new place. By
#: eye the 15 public triplets show six: 316-746, 2266, 2729, 4065-4438, 5254-5349, 7264-7657.
NUMBERS_PER_PLACE = 400


def open_sen12ms_cr(path: str | Path) -> FileTriplets | MemoryTriplets:
    """Open triplets in any of the three forms.

    Args:
        path: A ``.npz`` file, a folder that holds `ARCHIVE`, or a folder with GeoTIFFs.

    Raises:
        InputError: Nothing that looks like triplets.
    """
    root = Path(path).resolve()
    if root.is_dir() and not (root / ARCHIVE).is_file():
        return _file_triplets(root)
    archive = root / ARCHIVE if root.is_dir() else root
    if not archive.is_file() or archive.suffix != ".npz":
        raise InputError(f"{path} is neither a folder nor an .npz file of triplets")
    return _memory_triplets(archive)


@dataclass(frozen=True)
class MemoryTriplets:
    """Triplets that fit in memory; see `triplets.Triplets`."""

    name: str
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    sar: Array
    cloudy: Array
    clear: Array
    mask: Array | None
    optical_channels: tuple[str, ...] = SENTINEL2_L1C_BANDS
    sar_channels: tuple[str, ...] = SENTINEL1_POLARIZATIONS

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_masks(self) -> bool:
        """Whether the file brings them."""
        return self.mask is not None

    def triplet(self, index: int) -> Triplet:
        """Return views of the stored arrays; do not write to them."""
        mask = None if self.mask is None else self.mask[index]
        return Triplet(self.sar[index], self.cloudy[index], self.clear[index], mask)


@dataclass(frozen=True)
class FileTriplets:
    """Triplets in GeoTIFFs, read when asked for and kept while memory allows."""

    name: str
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    paths: tuple[tuple[Path, Path, Path], ...]
    optical_channels: tuple[str, ...] = SENTINEL2_L1C_BANDS
    sar_channels: tuple[str, ...] = SENTINEL1_POLARIZATIONS
    masks: tuple[Path | None, ...] = ()
    _kept: dict[int, Triplet] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_masks(self) -> bool:
        """Whether any triplet has one."""
        return any(path is not None for path in self.masks)

    def triplet(self, index: int) -> Triplet:
        """Read three files, and the mask where there is one.

        Raises:
            RasterError: A file cannot be read, or they do not lie on one grid.
        """
        if index in self._kept:
            return self._kept[index]
        triplet = self._read(index)
        size = sum(pixels.nbytes for pixels in (triplet.sar, triplet.cloudy, triplet.clear))
        if size * (len(self._kept) + 1) <= MAX_CACHED_BYTES:
            self._kept[index] = triplet
        return triplet

    def _read(self, index: int) -> Triplet:
        from esccs_edge.rasters.raster_file import read_only_band
        from esccs_edge.rasters.reader import read_sample

        optical = reading_spec(self.optical_channels)
        specs = {"sar": reading_spec(self.sar_channels), "cloudy": optical, "clear": optical}
        files = dict(zip(specs, self.paths[index], strict=True))
        sar, cloudy, clear = (p for p in read_sample(files, specs).values() if p is not None)
        mask = None
        if (path := self.masks[index]) is not None:
            flags, is_absent = read_only_band(path)
            if flags.shape != cloudy.shape[1:]:
                raise RasterError(f"{path} is {flags.shape}, expected {cloudy.shape[1:]}")
            mask = (flags > 0) & ~is_absent
        return Triplet(np.asarray(sar, np.float32), cloudy, clear, mask)


@lru_cache(maxsize=1)
def _memory_triplets(archive: Path) -> MemoryTriplets:
    """Decode the file once per process; the arrays are read-only since callers share them."""
    try:
        stored = read_npz(archive, ("id", "s1", "cloudy", "clear"), also=("mask", "place"))
    except ValueError as error:
        raise InputError(f"cannot read {archive}: {error}") from error
    ids = tuple(str(name) for name in stored["id"])
    sar = stored["s1"].astype(np.float32) * np.float32(DB_PER_UNIT)
    cloudy, clear = stored["cloudy"], stored["clear"]
    mask = stored["mask"] > 0 if "mask" in stored else None
    groups = stored["place"] if "place" in stored else places_of(ids)
    for pixels, channels in ((sar, 2), (cloudy, 13), (clear, 13)):
        if pixels.shape[:2] != (len(ids), channels) or pixels.shape[2:] != cloudy.shape[2:]:
            raise RasterError(f"{archive} holds {pixels.shape}, expected ({len(ids)}, {channels}, "
                              f"{cloudy.shape[2]}, {cloudy.shape[3]})")  # fmt: skip
        pixels.setflags(write=False)
    return MemoryTriplets(
        "SEN12MS-CR", ids, tuple(str(place) for place in groups), sar, cloudy, clear, mask
    )


def places_of(ids: Sequence[str]) -> tuple[str, ...]:
    """Return the place of each triplet by its id.

    A published name gives season and scene. Bare numbers are sorted, and one place ends where the
    next number is more than `NUMBERS_PER_PLACE` away; it is named by its first and last number.

    Raises:
        InputError: An id is neither.
    """
    numbers = sorted({int(name) for name in ids if name.isdecimal()})
    jumps = np.flatnonzero(np.diff(numbers) > NUMBERS_PER_PLACE) + 1
    place = {
        number: f"{part[0]}-{part[-1]}"
        for part in np.split(np.array(numbers, np.int64), jumps)
        for number in part.tolist()
    }
    return tuple(place[int(name)] if name.isdecimal() else _scene(name) for name in ids)


def _scene(name: str) -> str:
    match = _PATCH.match(name)
    if match is None:
        raise InputError(f"triplet is named {name!r}, expected a number or ROIs1158_spring_1_p30")
    return f"{match['season']}/{match['scene']}"


def _file_triplets(root: Path) -> FileTriplets:
    """List the triplets of which all three files exist."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(root.rglob("ROIs*_p*.tif")):
        if match := _PATCH.match(path.stem):
            kind = _KINDS[match["kind"]]
            key = f"{match['season']}_{match['scene']}_p{match['patch']}"
            found.setdefault(key, {})[path.parent.name if kind == "any" else kind] = path
    whole = {key: found[key] for key in sorted(found) if found[key].keys() >= set(FOLDERS)}
    if not whole:
        raise InputError(
            f"{root} has {len(found)} patches of SEN12MS-CR but none with all three files",
            hint="Expected ROIs*_s1, ROIs*_s2 and ROIs*_s2_cloudy, or the folders "
            + ", ".join(FOLDERS),
        )
    ids = tuple(whole)
    paths = tuple((files["s1"], files["s2_cloudy"], files["s2_cloudfree"])
                  for files in whole.values())  # fmt: skip
    masks = tuple(files.get(MASK_FOLDER) for files in whole.values())
    return FileTriplets("SEN12MS-CR", ids, places_of(ids), paths, masks=masks)
