"""An ``index.csv`` data set as a `PairDataset`: the way to train on one's own files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.sensors import (
    POLARIZATIONS,
    SENTINEL1_POLARIZATIONS,
    SENTINEL2_DN_SCALE,
    SENTINEL2_L1C_BANDS,
    SENTINEL2_L2A_BANDS,
)
from esccs_edge.errors import InputError
from esccs_edge.rasters.pair_index import PairIndex, read_index
from esccs_edge.rasters.reader import described_channels

from .dataset import RawPair

#: Files are read again once the decoded pixels kept in memory exceed this.
MAX_CACHED_BYTES = 1 << 30


class IndexDataset:
    """Pairs listed in an index file, read when asked for and kept while memory allows.

    Where a model is given, files are read by its contract. Otherwise the channels are those that
    the first file of a modality describes; without descriptions, 13 and 12 bands are Sentinel-2
    L1C and L2A in sensor order and two SAR bands are VV and VH.
    """

    def __init__(
        self,
        index: PairIndex,
        manifest: Manifest | None = None,
        pixel_size_m: float | None = None,
    ) -> None:
        self._index = index
        self._pixel_size_m = pixel_size_m
        if manifest is not None and pixel_size_m is None:
            self._pixel_size_m = manifest.sample.pixel_size_m
        self.name = index.folder.name or "index"
        self.classes = index.classes
        place = {name: i for i, name in enumerate(index.classes)}
        labels = [-1 if row.label is None else place[row.label] for row in index.rows]
        self.labels = np.array(labels, np.int64)
        self.groups = tuple(row.group for row in index.rows)
        self.splits = tuple(row.split for row in index.rows)
        covers = [np.nan if row.cover is None else row.cover for row in index.rows]
        self.covers = np.array(covers, np.float64)
        #: What of the pairs is not real, such as ``"sar"``, whatever wrote the index says.
        self.simulated = tuple(sorted({name for row in index.rows for name in row.simulated}))
        require_disjoint(self.groups, self.splits)
        opticals, sars = (
            [path for row in index.rows if (path := row.paths[name]) is not None]
            for name in ("optical", "sar")
        )
        if manifest is None:
            self._specs = (
                reading_spec(file_channels(opticals, is_sar=False)),
                reading_spec(file_channels(sars, is_sar=True)),
            )
        else:
            self._specs = manifest.modalities["optical"], manifest.modalities["sar"]
        self.optical_channels = self._specs[0].channels if opticals else ()
        self.sar_channels = self._specs[1].channels if sars else ()
        self._kept: dict[int, RawPair] = {}
        self._kept_bytes = 0

    @classmethod
    def open(
        cls, path: str | Path, manifest: Manifest | None = None, pixel_size_m: float | None = None
    ) -> IndexDataset:
        """Read an index file, for a model or for any.

        Raises:
            InputError: The index is malformed, or a group stands in two splits.
            RasterError: The first file of a modality cannot be read.
        """
        return cls(read_index(path), manifest, pixel_size_m)

    def __len__(self) -> int:
        return len(self.labels)

    def pair(self, index: int) -> RawPair:
        """Return (optical, SAR) as stored; an absent modality is None."""
        if index in self._kept:
            return self._kept[index]
        specs = dict(zip(("optical", "sar"), self._specs, strict=True))
        optical, sar = self._index.load(index, specs, self._pixel_size_m).values()
        pair = optical, sar
        size = sum(pixels.nbytes for pixels in pair if pixels is not None)
        if self._kept_bytes + size <= MAX_CACHED_BYTES:
            self._kept[index] = pair
            self._kept_bytes += size
        return pair

    def pair_name(self, index: int) -> str:
        """Return the files of a pair, as messages name it."""
        return " + ".join(str(path) for path in self._index.rows[index].paths.values() if path)


def require_disjoint(groups: Iterable[str], splits: Iterable[str]) -> None:
    """Refuse a group that stands in two splits.

    Raises:
        InputError: One does.
    """
    home: dict[str, str] = {}
    for group, split in zip(groups, splits, strict=True):
        if home.setdefault(group, split) != split:
            raise InputError(
                f"group {group!r} is in splits {home[group]!r} and {split!r}, expected one",
                hint="Pairs of one place look alike: put a whole group into one split",
            )


def file_channels(paths: Sequence[Path], *, is_sar: bool) -> tuple[str, ...]:
    """Return the channels that the first file of a modality describes, or those of its sensor."""
    if not paths:
        return ("absent",)
    described = described_channels(paths[0])
    known = SENTINEL1_POLARIZATIONS if is_sar else SENTINEL2_L1C_BANDS
    if named := tuple(channel for channel in known if channel in described):
        return named
    defaults = (SENTINEL1_POLARIZATIONS, ("VV",)) if is_sar else (
        SENTINEL2_L1C_BANDS, SENTINEL2_L2A_BANDS)  # fmt: skip
    for channels in defaults:
        if len(channels) == len(described):
            return channels
    return tuple(f"{'sar' if is_sar else 'optical'}-{i + 1}" for i in range(len(described)))


def reading_spec(channels: tuple[str, ...]) -> ModalitySpec:
    """A contract that names channels and the unit of their floats; its statistics are not used."""
    unit, dn_scale = "dn", 1.0
    if set(channels) <= set(SENTINEL2_L1C_BANDS):
        unit, dn_scale = "reflectance", SENTINEL2_DN_SCALE
    elif set(channels) <= set(POLARIZATIONS):
        unit = "dB"
    ones = (1.0,) * len(channels)
    return ModalitySpec(channels, "", "", unit, dn_scale, 0.0, 0.0, (0.0, 1.0), ones, ones)
