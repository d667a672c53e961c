"""TerraMesh places: real Sentinel-1 RTC + Sentinel-2 L1C with land cover, to judge on.

Five validation samples (IBM TerraMind examples; CC-BY-SA 4.0 as far as known): nothing is learned
from them, so every sample is in the split ``"test"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from esccs_edge.contracts.npz_file import read_npz
from esccs_edge.contracts.sensors import (
    SENTINEL1_POLARIZATIONS,
)
from esccs_edge.errors import InputError, RasterError

from .map_dataset import MapSample, MemoryMaps, class_numbers

FILE = "terramesh5.npz"
CLASSES = ("water", "trees", "flooded vegetation", "crops", "built", "bare", "snow", "rangeland")
#: Code -> class; cloud (8) is no land cover and does not count.
CODES: Mapping[int, int] = MappingProxyType({1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6, 9: 7})
#: Order in the file.
CHANNELS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11",
            "B12")  # fmt: skip
#: What processing baseline 04.00 adds to digital numbers; a place whose darkest pixel is above
#: this was not freed of it.
OFFSET = 1000
_ADDED_FROM = 900


def open_terramesh(folder: str | Path) -> MemoryMaps:
    """Read all places; digital numbers of baseline 04.00 are brought back to the older ones.

    Args:
        folder: Folder with ``terramesh5.npz``.

    Raises:
        InputError: The file is missing.
        RasterError: It lacks an array.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        raise InputError(f"no {FILE} in {folder}", hint="Give the folder of the TerraMesh samples")
    try:
        ids, sars, opticals, covers = read_npz(file, ("id", "s1rtc", "s2l1c", "lulc")).values()
    except ValueError as error:
        raise RasterError(f"cannot read {file}: {error}") from error
    samples = []
    for sar, optical, cover in zip(sars, opticals, covers, strict=True):
        numbers = optical.astype(np.int32)
        if numbers[:, numbers.any(axis=0)].min() >= _ADDED_FROM:
            numbers = np.maximum(numbers - OFFSET, 1)
        decibels = (sar / np.float32(100)).astype(np.float32)
        seen = numbers.clip(0, 65535).astype(np.uint16)
        samples.append(MapSample(seen, decibels, class_numbers(cover, CODES)))
    places = tuple(str(name) for name in ids)
    return MemoryMaps(
        name="TerraMesh", classes=CLASSES, groups=places, splits=("test",) * len(places),
        optical_channels=CHANNELS, sar_channels=SENTINEL1_POLARIZATIONS, samples=tuple(samples),
    )  # fmt: skip
