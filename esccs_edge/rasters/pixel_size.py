"""How large a pixel is on the ground, whatever the coordinates of the raster.

A model knows ground at one pixel size. Degrees and map projections are measured on the earth at the
middle of the raster, so that 10 "meters" of Web Mercator at 60 degrees north count as the 5 they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, hypot, isfinite, radians
from typing import Any

from ..errors import RasterError
from .gdal import DAMAGE, gdal_errors, transform
from .grid import Grid

#: Largest factor between the pixel size of a raster and that of the model, in either direction.
LARGEST_FACTOR = 1.5
_METERS_PER_DEGREE = 111_195.0


def require_pixel_size(grid: Grid, expected_m: float, name: str) -> None:
    """Refuse a raster whose pixels are much larger or smaller than those of the model.

    A raster without coordinate reference system says nothing of its size and passes.

    Raises:
        RasterError: Width or height differ by more than `LARGEST_FACTOR`.
    """
    size = ground_size_m(grid)
    if size is None:
        return
    if max(max(side / expected_m, expected_m / side) for side in size) > LARGEST_FACTOR:
        shown = " x ".join(f"{side:.3g}" for side in size)
        raise RasterError(
            f"{name} has pixels of {shown} m on the ground, expected {expected_m:g} m",
            hint=f"Bring it to {expected_m:g} m first (esccs-edge stack OPTICAL SAR --out pair), "
            "or train a model for this pixel size",
        )


def ground_size_m(grid: Grid) -> tuple[float, float] | None:
    """Return width and height of the middle pixel in meters.

    None where the raster has no coordinate reference system, or one that is nowhere on the earth.
    """
    if grid.crs is None:
        return None
    t = grid.transform
    x, y = t.c + t.a * (grid.width // 2), t.f + t.e * (grid.height // 2)
    try:
        longitudes, latitudes = on_earth(grid.crs, [x, x + t.a, x], [y, y, y + t.e])
    except RasterError:
        return None
    east = [(longitude - longitudes[0] + 180) % 360 - 180 for longitude in longitudes]
    north = [latitude - latitudes[0] for latitude in latitudes]
    across = cos(radians(latitudes[0]))
    width, height = (_METERS_PER_DEGREE * hypot(east[i] * across, north[i]) for i in (1, 2))
    return (width, height) if isfinite(width * height) and width * height > 0 else None


def on_earth(
    crs: Any, xs: Sequence[float], ys: Sequence[float]
) -> tuple[Sequence[float], Sequence[float]]:
    """Return longitudes and latitudes in degrees (EPSG:4326).

    Raises:
        RasterError: The coordinates have no way to longitude and latitude.
    """
    with gdal_errors("cannot find where the raster lies on the earth", also=DAMAGE):
        longitudes, latitudes = transform(crs, "EPSG:4326", list(xs), list(ys))
    return longitudes, latitudes
