"""Sen1Floods11: hand-labeled water on real Sentinel-1 and 2 chips (Bonafilia et al., 2020).

Files of the public set: ``S1/<id>_S1Hand.tif`` (VV and VH in dB), ``S2/<id>_S2Hand.tif``
(13 bands, digital numbers) and ``Labels/<id>_LabelHand.tif`` (-1 not known, 0 dry, 1 water), 512 x
512 pixels. The split is by country, the first word of an id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.sensors import SENTINEL1_POLARIZATIONS, SENTINEL2_L1C_BANDS
from esccs_edge.errors import InputError

from .map_dataset import MapSample, class_numbers
from .rasters import read_raster
from .splits import split_with_one_test_set

CLASSES = ("dry", "water")
#: Fewer countries than this make no split, and all chips are judged on.
LEAST_COUNTRIES = 3
HIGHEST_DN = 32767


@dataclass(frozen=True)
class Sen1Floods11:
    """A `MapDataset` of chips that are read when asked for."""

    root: Path
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    name: str = "Sen1Floods11"
    classes: tuple[str, ...] = CLASSES
    optical_channels: tuple[str, ...] = SENTINEL2_L1C_BANDS
    sar_channels: tuple[str, ...] = SENTINEL1_POLARIZATIONS
    has_cloud_masks: bool = False
    simulated: tuple[str, ...] = ()
    contracts: Mapping[str, ModalitySpec] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> MapSample:
        """Read a chip; SAR that is not a number is absent.

        Raises:
            RasterError: A file cannot be read or has another number of bands.
        """
        name = self.ids[index]
        optical = read_raster(self.root / "S2" / f"{name}_S2Hand.tif", len(SENTINEL2_L1C_BANDS))
        sar = read_raster(self.root / "S1" / f"{name}_S1Hand.tif", len(SENTINEL1_POLARIZATIONS))
        codes = read_raster(self.root / "Labels" / f"{name}_LabelHand.tif", 1)[0]
        numbers = optical.clip(0, HIGHEST_DN).astype(np.uint16)
        return MapSample(numbers, sar.astype(np.float32), class_numbers(codes, {0: 0, 1: 1}))


def open_sen1floods11(folder: str | Path, seed: int = 0) -> Sen1Floods11:
    """Open all chips that have both images.

    Args:
        folder: Folder with ``S1``, ``S2`` and ``Labels``.
        seed: Of the division into training and validation by country; the test countries are always
            the same, and of fewer than three countries all chips are ``"test"``.

    Raises:
        InputError: There is no such chip.
    """
    root = Path(folder)
    files = (root / "Labels").glob("*_LabelHand.tif")
    ids = [name for name in sorted(f.name.removesuffix("_LabelHand.tif") for f in files)
           if all((root / s / f"{name}_{s}Hand.tif").is_file() for s in ("S1", "S2"))]  # fmt: skip
    if not ids:
        raise InputError(
            f"no chip in {root}, expected Labels/<id>_LabelHand.tif with S1 and S2 of the same id",
            hint="Give the folder HandLabeled of Sen1Floods11",
        )
    countries = tuple(name.split("_")[0] for name in ids)
    splits = ("test",) * len(ids)
    if len(set(countries)) >= LEAST_COUNTRIES:
        splits = split_with_one_test_set(np.zeros(len(ids), np.int64), countries, seed)
    return Sen1Floods11(root, tuple(ids), countries, splits)
