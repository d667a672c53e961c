"""The grid that a pair is brought to: that of the optical image at the model's pixel size."""

from __future__ import annotations

import math
from typing import Any

from ...contracts.types import PathLike
from ...errors import RasterError
from ..gdal import Affine, gdal_errors, transform_bounds
from ..grid import Grid, raster_grid
from ..raster_file import open_dataset, regular_file

#: A pixel size is the model's if it differs by less than this share.
_SAME_SIZE = 0.01
_WGS84 = "EPSG:4326"
_PLACE = (
    "Only rasters that are tied to the ground can be brought to one grid; those placed by rational "
    "polynomials (RPC) by: gdalwarp -rpc INPUT OUTPUT"
)


def grid_of_raster(path: PathLike) -> Grid:
    """Return the grid of an existing raster, which the user names as the one to take.

    Raises:
        RasterError: It cannot be read, or has no coordinates.
    """
    file = regular_file(path)
    with open_dataset(file) as dataset:
        grid = raster_grid(dataset, str(path))
    if grid.crs is None:
        raise RasterError(f"{path} has no coordinates, expected a georeferenced raster")
    return grid


def grid_for(dataset: Any, pixel_m: float, name: str) -> Grid:
    """Return the grid for an image: its own where it fits the model, else one in UTM.

    Args:
        dataset: Open rasterio dataset of the finest band.
        pixel_m: Pixel size of the model, in meters.
        name: What to call the image in errors.

    Raises:
        RasterError: The image has no coordinates.
    """
    if dataset.crs is None:
        placed = "by control points only" if dataset.gcps[0] else "nowhere"
        raise RasterError(
            f"{name} is placed {placed}, expected a georeferenced image",
            hint=f"Name a raster whose grid to take with --grid. {_PLACE}"
            if placed == "nowhere"
            else "Name a raster whose grid to take with --grid",
        )
    if _fits(dataset, pixel_m):
        return Grid(dataset.crs, dataset.transform, dataset.height, dataset.width)
    utm = _utm_zone(dataset, name)
    with gdal_errors(f"cannot place {name}"):
        bounds = transform_bounds(dataset.crs, utm, *_bounds(dataset))
    left, bottom, right, top = (side / pixel_m for side in bounds)
    first, last = math.floor(left), math.floor(-top)
    width, height = math.ceil(right) - first, math.ceil(-bottom) - last
    transform = Affine(pixel_m, 0.0, first * pixel_m, 0.0, -pixel_m, -last * pixel_m)
    return Grid(_crs(utm, dataset), transform, height, width)


def part_of(grid: Grid, row: int, column: int, height: int, width: int) -> Grid:
    """Return the grid of a window."""
    t = grid.transform
    left, top = t.c + t.a * column + t.b * row, t.f + t.d * column + t.e * row
    moved = Affine(t.a, t.b, left, t.d, t.e, top)
    return Grid(grid.crs, moved, height, width)


def bounds_in_degrees(dataset: Any, name: str) -> tuple[float, float, float, float]:
    """Return west, south, east and north of a dataset; of its control points where it has them.

    Raises:
        RasterError: It has neither coordinates nor control points.
    """
    points, crs = dataset.gcps
    if dataset.crs is None and points and crs is not None:
        x, y = [p.x for p in points], [p.y for p in points]
        bounds = min(x), min(y), max(x), max(y)
    elif dataset.crs is not None:
        bounds, crs = _bounds(dataset), dataset.crs
    else:
        raise RasterError(
            f"{name} has no coordinates, expected a georeferenced raster",
            hint=_PLACE,
        )
    with gdal_errors(f"cannot place {name}", hint=_PLACE):
        west, south, east, north = transform_bounds(crs, _WGS84, *bounds)
    return west, south, east, north


def _bounds(dataset: Any) -> tuple[float, float, float, float]:
    """Return the smallest x and y and the largest, whichever way rows and columns run."""
    left, bottom, right, top = dataset.bounds
    return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


def overlaps(grid: Grid, bounds: tuple[float, float, float, float]) -> bool:
    """Return whether a grid and a box in degrees share ground, across 180 degrees too."""
    t = grid.transform
    own = t.c, t.f + t.e * grid.height, t.c + t.a * grid.width, t.f
    with gdal_errors("cannot place the grid"):
        west, south, east, north = transform_bounds(grid.crs, _WGS84, *own)
    if south > bounds[3] or north < bounds[1]:
        return False
    first, second = _turned(west, east), _turned(bounds[0], bounds[2])
    return any(
        first[0] <= second[1] + turn and second[0] + turn <= first[1] for turn in (-360, 0, 360)
    )


def _turned(west: float, east: float) -> tuple[float, float]:
    return west, east if east >= west else east + 360


def _fits(dataset: Any, pixel_m: float) -> bool:
    t = dataset.transform
    if t.b or t.d or not dataset.crs.is_projected or not t.a > 0 > t.e:
        return False
    meters = dataset.crs.linear_units_factor[1]
    return all(abs(abs(side) * meters / pixel_m - 1) < _SAME_SIZE for side in (t.a, t.e))


def _utm_zone(dataset: Any, name: str) -> str:
    west, south, east, north = bounds_in_degrees(dataset, name)
    first, last = _turned(west, east)
    longitude = ((first + last) / 2 + 180) % 360 - 180
    zone = min(int((longitude + 180) // 6) + 1, 60)
    return f"EPSG:{(32600 if south + north >= 0 else 32700) + zone}"


def _crs(code: str, dataset: Any) -> Any:
    return type(dataset.crs).from_string(code)
