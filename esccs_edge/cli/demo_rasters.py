"""Arrays as the GeoTIFFs that a ground station would hold. Used by the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
from affine import Affine

from ..contracts.sensors import SENTINEL1_POLARIZATIONS, SENTINEL2_L1C_BANDS, SENTINEL2_NODATA
from ..rasters.gdal import rasterio
from ..system.atomic import atomic_path
from ..system.path_text import path_text


class Ground(NamedTuple):
    """Where the pixels lie.

    Attributes:
        crs: Coordinate system, in meters.
        corner_m: Upper left corner.
        pixel_size_m: Side of a pixel.
        origin: Where the pixels come from, written into the file.
    """

    crs: str
    corner_m: tuple[float, float]
    pixel_size_m: float
    origin: str


def write_optical(path: Path, pixels: npt.NDArray[Any], ground: Ground) -> Path:
    """Write ``(13, H, W)`` uint16 digital numbers; the file appears complete or not at all."""
    return _write(path, pixels, ground, SENTINEL2_L1C_BANDS, SENTINEL2_NODATA)


def write_sar(path: Path, pixels: npt.NDArray[Any], ground: Ground) -> Path:
    """Write ``(2, H, W)`` float32 dB; the file appears complete or not at all."""
    return _write(path, pixels, ground, SENTINEL1_POLARIZATIONS, None)


def _write(
    path: Path,
    pixels: npt.NDArray[Any],
    ground: Ground,
    names: tuple[str, ...],
    nodata: float | None,
) -> Path:
    count, height, width = pixels.shape
    left, top = ground.corner_m
    with (
        atomic_path(path) as partial,
        rasterio.open(
            path_text(partial), "w", driver="GTiff", count=count, height=height, width=width,
            dtype=pixels.dtype, crs=ground.crs, nodata=nodata, tiled=True, compress="deflate",
            zlevel=1, transform=Affine(ground.pixel_size_m, 0, left, 0, -ground.pixel_size_m, top),
        ) as dataset,
    ):  # fmt: skip
        dataset.write(pixels)
        dataset.descriptions = names
        dataset.update_tags(ORIGIN=ground.origin)
    return path


def read_classes(class_map: Path) -> npt.NDArray[Any]:
    """Return ``(H, W)`` class positions, 255 where there is no answer."""
    with rasterio.open(path_text(class_map)) as dataset:
        return dataset.read(1)  # type: ignore[no-any-return]
