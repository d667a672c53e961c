"""How large a raster is on the ground, for scale bars and axes. Standard library only."""

from __future__ import annotations

import math

from ..rasters.grid import Grid

#: Mean length of one degree of latitude on the WGS 84 ellipsoid.
METERS_PER_DEGREE = 111_320.0
_STEPS = (1, 2, 5, 10)


def ground_pixel_m(grid: Grid) -> tuple[float, float] | None:
    """Return width and height of a pixel in meters at the middle of the grid, or None.

    Degrees of longitude shrink with the cosine of the latitude. None without a CRS.
    """
    if grid.crs is None:
        return None
    t = grid.transform
    if not grid.crs.is_geographic:
        unit_m = grid.crs.linear_units_factor[1]
        return t.a * unit_m, -t.e * unit_m
    latitude = math.radians(t.f + t.e * grid.height / 2)
    return t.a * METERS_PER_DEGREE * math.cos(latitude), -t.e * METERS_PER_DEGREE


def bar_length_m(width_m: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... meters that fits in a quarter of the width."""
    longest_m = width_m / 4
    power = 10.0 ** math.floor(math.log10(longest_m))
    return max(step * power for step in _STEPS if step * power <= longest_m * (1 + 1e-9))


def length_text(length_m: float) -> str:
    """Return ``"500 m"`` or ``"2 km"``."""
    return f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
