"""A real scene that ships with the package: Sentinel-2 under clouds, Sentinel-1, and a clear sky.

Patch ROIs1970_fall_139_p839 of SEN12MS-CR (Ebel et al., IEEE TGRS 2021; CC BY 4.0; contains
modified Copernicus Sentinel data): a river between embankments and villages in eastern China. No
model of this package learned on it, and it has no labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

#: What to name wherever the scene is shown.
CREDIT = "SEN12MS-CR, CC BY 4.0; contains modified Copernicus Sentinel data"
CRS = "EPSG:32650"
#: Easting and northing of the upper left corner, in meters.
CORNER_M = (701_879.91, 3_710_139.54)
PIXEL_SIZE_M = 10.0

_FILE = Path(__file__).parent / "scene.npz"
#: Top row and left column of the pair: the river, partly under clouds.
_PAIR = (64, 128)
_LARGEST = 128


@dataclass(frozen=True)
class ExampleScene:
    """Three images of one place, on one grid of 10 m; the arrays are read-only.

    Attributes:
        optical: ``(13, H, W)`` uint16 digital numbers of Sentinel-2 L1C under clouds, bands
            B01 ... B08, B8A, B09 ... B12.
        sar: ``(2, H, W)`` float32 backscatter of Sentinel-1 in dB, VV and VH.
        clear: ``(13, H, W)`` uint16, the same place under a clear sky on another day.
    """

    optical: npt.NDArray[np.uint16]
    sar: npt.NDArray[np.float32]
    clear: npt.NDArray[np.uint16]

    def window(self, row: int, column: int, size: int) -> ExampleScene:
        """Return a square part, contiguous, as models read it without a copy."""
        part = (slice(None), slice(row, row + size), slice(column, column + size))
        return ExampleScene(*(_kept(np.ascontiguousarray(image[part])) for image in
                              (self.optical, self.sar, self.clear)))  # fmt: skip


def _kept(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    pixels.setflags(write=False)
    return pixels


@lru_cache(maxsize=1)
def example_scene() -> ExampleScene:
    """Return the scene, 256 x 256 pixels."""
    with np.load(_FILE, allow_pickle=False) as stored:
        # Backscatter is stored in hundredths of a decibel, far below the noise of the sensor.
        sar = stored["sar"].astype(np.float32) / np.float32(100)
        return ExampleScene(_kept(stored["optical"]), _kept(sar), _kept(stored["clear"]))


def example_pair(size: int = 64) -> ExampleScene:
    """Return a square part of the scene: a river, partly under clouds.

    Args:
        size: Rows and columns, at most 128: ``Classifier()`` takes 64, ``Segmenter()`` 128.

    Raises:
        ValueError: No part is as large.
    """
    if not 1 <= size <= _LARGEST:
        raise ValueError(f"size is {size}, expected 1 to {_LARGEST}")
    return example_scene().window(*_PAIR, size)
