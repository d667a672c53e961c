"""A simulated scene as the two GeoTIFFs that a ground station would hold. Used by the demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import rasterio
from affine import Affine

from ..contracts.sensors import SENTINEL1_POLARIZATIONS, SENTINEL2_L1C_BANDS, SENTINEL2_NODATA
from ..system.atomic import atomic_path

if TYPE_CHECKING:
    from esccs_edge.training.simulate.scene import SimulatedScene

#: Coordinates of the simulated ground: UTM zone 32 N, upper left corner in meters.
CRS = "EPSG:32632"
CORNER_M = (600_000.0, 5_400_000.0)


def write_rasters(scene: SimulatedScene, folder: Path, pixel_size_m: float) -> tuple[Path, Path]:
    """Write ``optical.tif`` (uint16 digital numbers) and ``sar.tif`` (float32 dB).

    Returns:
        Paths of both; each file appears complete or not at all.
    """
    optical, sar = folder / "optical.tif", folder / "sar.tif"
    _write(optical, scene.optical, SENTINEL2_L1C_BANDS, pixel_size_m, SENTINEL2_NODATA)
    _write(sar, scene.sar, SENTINEL1_POLARIZATIONS, pixel_size_m, None)
    return optical, sar


def _write(
    path: Path,
    pixels: npt.NDArray[Any],
    names: tuple[str, ...],
    pixel_size_m: float,
    nodata: float | None,
) -> None:
    count, height, width = pixels.shape
    with (
        atomic_path(path) as partial,
        rasterio.open(
            partial, "w", driver="GTiff", count=count, height=height, width=width,
            dtype=pixels.dtype, crs=CRS, nodata=nodata, tiled=True, compress="deflate", zlevel=1,
            transform=Affine(pixel_size_m, 0, CORNER_M[0], 0, -pixel_size_m, CORNER_M[1]),
        ) as dataset,
    ):  # fmt: skip
        dataset.write(pixels)
        dataset.descriptions = names
        dataset.update_tags(ORIGIN="simulated by esccs-edge demo")


def read_classes(class_map: Path) -> npt.NDArray[Any]:
    """Return ``(H, W)`` class positions, 255 where there is no answer."""
    with rasterio.open(class_map) as dataset:
        return dataset.read(1)  # type: ignore[no-any-return]
