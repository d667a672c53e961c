"""M3M-CR: PlanetScope clear and cloudy, Sentinel-1, cloud masks and ESA WorldCover.

CloudSeg's own data set (Xu et al., 2024; full set on request, one sample per split is public).
Optical images and masks have 300 x 300 pixels of 3 m, SAR and land cover 90 x 90 of 10 m. Which
band is which is not stated, so the optical channels carry neutral names.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError, RasterError

from .dataset import SPLITS
from .index import require_disjoint
from .map_dataset import MapSample, class_numbers, repeated
from .rasters import read_array, read_raster

CLASSES = ("forest", "rangeland", "agriculture", "urban", "barren", "water")
#: WorldCover code -> class. Snow (70), moss (100) and mangroves (95) are of none of the classes,
#: and no data (0) is not forest: what is not named here does not count.
CODES: Mapping[int, int] = MappingProxyType(
    {10: 0, 20: 1, 30: 1, 40: 2, 50: 3, 60: 4, 80: 5, 90: 5}
)
OPTICAL_CHANNELS = ("optical-1", "optical-2", "optical-3", "optical-4")
SAR_CHANNELS = ("VV", "VH")
#: Range of VV and of VH in dB.
SAR_RANGES = ((-25.0, 0.0), (-32.5, 0.0))
COLUMNS = ("cloudfree", "cloudy", "S1", "landcover", "cloudmask")
#: Folder of a season and region, whose patches are one place: ``planet_cloudy_fall_12``.
_REGION = re.compile(r"([a-z]+_\d+)(?:_p_\d+)?\.tif$", re.IGNORECASE)


@dataclass(frozen=True)
class M3mCr:
    """A `MapDataset` of truly cloudy images, their masks and a clear image of each place."""

    rows: tuple[dict[str, Path], ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    name: str = "M3M-CR"
    classes: tuple[str, ...] = CLASSES
    optical_channels: tuple[str, ...] = OPTICAL_CHANNELS
    sar_channels: tuple[str, ...] = SAR_CHANNELS
    has_cloud_masks: bool = True
    simulated: tuple[str, ...] = ()
    contracts: Mapping[str, ModalitySpec] = field(default_factory=lambda: _contracts())

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, index: int) -> MapSample:
        """Read a patch; SAR is brought to the grid of the optical images by nearest neighbors.

        Raises:
            RasterError: A file cannot be read, or has the wrong shape.
        """
        row = self.rows[index]
        clear, cloudy = (_optical(row[name]) for name in ("cloudfree", "cloudy"))
        size = cloudy.shape[1], cloudy.shape[2]
        if clear.shape != cloudy.shape:
            raise RasterError(f"{row['cloudfree']} is {clear.shape}, expected {cloudy.shape}")
        sar = read_raster(row["S1"], len(SAR_CHANNELS)).astype(np.float32)
        low, high = np.array(SAR_RANGES, np.float32).T[:, :, None, None]
        cloud = read_array(row["cloudmask"])
        if cloud.shape != size:
            raise RasterError(f"{row['cloudmask']} is {cloud.shape}, expected {size}")
        codes = read_raster(row["landcover"], 1)[0]
        return MapSample(
            optical=cloudy,
            sar=repeated(np.clip(sar, low, high), size),
            target=class_numbers(codes, CODES),
            clear=clear,
            cloud=cloud.astype(bool),
        )


def open_m3m_cr(folder: str | Path) -> M3mCr:
    """Open the set by its lists ``train.csv``, ``val.csv`` and ``test.csv``.

    A list has no header and one row per patch: clear, cloudy, S1, land cover and cloud mask, each
    relative to the folder of the split (``folder/train``), or to ``folder`` where there is none.

    Args:
        folder: Folder with the lists.

    Raises:
        InputError: There is no list, or one names a file that is not there.
    """
    root = Path(folder)
    rows: list[dict[str, Path]] = []
    groups: list[str] = []
    splits: list[str] = []
    for split in SPLITS:
        for file in sorted(root.glob(f"{split}.csv")):
            base = root / split if (root / split).is_dir() else root
            for row in _rows(file, base):
                rows.append(row)
                groups.append(_place(row["cloudy"]))
                splits.append(split)
    if not rows:
        raise InputError(
            f"no train.csv, val.csv or test.csv in {root}",
            hint="M3M-CR has a list per split: clear, cloudy, S1, land cover, cloud mask in a row",
        )
    require_disjoint(groups, splits)
    return M3mCr(tuple(rows), tuple(groups), tuple(splits))


def _rows(file: Path, base: Path) -> list[dict[str, Path]]:
    found = []
    with open(file, newline="", encoding="utf-8-sig") as stream:
        for number, cells in enumerate(csv.reader(stream), 1):
            if not cells:
                continue
            if len(cells) != len(COLUMNS):
                raise InputError(
                    f"{file}, line {number} has {len(cells)} cells, expected {len(COLUMNS)}: "
                    + ", ".join(COLUMNS)
                )
            row = {name: base / cell.strip() for name, cell in zip(COLUMNS, cells, strict=True)}
            if lacking := [path for path in row.values() if not path.is_file()]:
                raise InputError(f"{file}, line {number} names {lacking[0]}, which is no file")
            found.append(row)
    return found


def _place(path: Path) -> str:
    """Season and number of the region of a patch: ``fall_12``; the folder where it has none."""
    match = _REGION.search(path.name)
    return match[1] if match else path.parent.name


def _optical(path: Path) -> Array:
    pixels = read_raster(path, len(OPTICAL_CHANNELS))
    if pixels.dtype != np.uint16:
        raise RasterError(f"{path} holds {pixels.dtype} values, expected uint16")
    return pixels


def _contracts() -> dict[str, ModalitySpec]:
    ones = (1.0,) * len(OPTICAL_CHANNELS)
    optical = ModalitySpec(
        OPTICAL_CHANNELS, "PlanetScope", "surface reflectance", "reflectance", 1e-4, 0.0, None,
        (0.0, 1.0), ones, ones,
    )  # fmt: skip
    return {"optical": optical}
