"""Where the pixels of a raster lie on the ground, and whether two rasters lie on the same ones.

Two rasters are never resampled silently: they share a grid, or they are refused with both values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import RasterError

#: Two grids are the same when their corners differ by less than this share of a pixel. Writers
#: round transforms differently; a shift that matters to a classifier is far larger.
GRID_TOLERANCE_PX = 0.01

_ALIGN_HINT = "Bring both to one grid first, for example with gdalwarp"
_WARP_HINT = "Bring it to a north-up grid first, for example with gdalwarp"


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a raster.

    Attributes:
        crs: Coordinate reference system (`rasterio.crs.CRS`), or None.
        transform: Affine map from (column, row) to coordinates (`affine.Affine`).
        height: Rows.
        width: Columns.
    """

    crs: Any
    transform: Any
    height: int
    width: int

    @property
    def is_georeferenced(self) -> bool:
        """True if the grid is tied to coordinates; a plain picture is not."""
        return self.crs is not None or not self.transform.is_identity


def raster_grid(dataset: Any, name: str) -> Grid:
    """Return the grid of an open rasterio dataset.

    Raises:
        RasterError: The raster is rotated, south-up, or placed by control points only.
    """
    grid = Grid(dataset.crs, dataset.transform, dataset.height, dataset.width)
    if not grid.is_georeferenced:
        if dataset.gcps[0]:
            raise RasterError(
                f"{name} is placed by {len(dataset.gcps[0])} ground control points, "
                "expected a regular grid",
                hint=_WARP_HINT,
            )
        return grid
    t = dataset.transform
    if t.b or t.d:
        raise RasterError(
            f"{name} is rotated (transform {_numbers(t)}), expected north-up", hint=_WARP_HINT
        )
    if not (t.a > 0 > t.e):
        raise RasterError(
            f"{name} has pixel size ({t.a:g}, {t.e:g}), expected columns to the east and rows "
            "to the south (+, -)",
            hint=_WARP_HINT,
        )
    return grid


def require_same_grid(first: Grid, second: Grid, names: tuple[str, str]) -> None:
    """Refuse two rasters whose pixels do not coincide.

    Raises:
        RasterError: Shape, CRS or transform differ; the message names both values.
    """
    _require_equal("height x width", _size(first), _size(second), names)
    _require_equal("CRS", _crs(first), _crs(second), names)
    if (shift := _largest_corner_shift_px(first, second)) > GRID_TOLERANCE_PX:
        raise RasterError(
            f"{names[0]} has transform {_numbers(first.transform)} and {names[1]} "
            f"{_numbers(second.transform)}, which are {shift:.3g} pixels apart; expected at most "
            f"{GRID_TOLERANCE_PX}",
            hint=_ALIGN_HINT,
        )


def require_same_ground(finest: Grid, other: Grid, name: str) -> None:
    """Refuse a raster that does not cover the ground of ``finest``, whatever its pixel size.

    Raises:
        RasterError: CRS or extent differ.
    """
    if _crs(finest) != _crs(other):
        raise RasterError(f"{name} has CRS {_crs(other)}, expected {_crs(finest)} as its partners")
    wanted, found = _bounds(finest), _bounds(other)
    tolerance = GRID_TOLERANCE_PX * abs(finest.transform.a)
    if max(abs(a - b) for a, b in zip(wanted, found, strict=True)) > tolerance:
        raise RasterError(
            f"{name} spans {_numbers(found)}, expected {_numbers(wanted)} as its partners",
            hint="Cut all bands to one extent first",
        )


def _require_equal(what: str, first: str, second: str, names: tuple[str, str]) -> None:
    if first != second:
        raise RasterError(
            f"{names[0]} has {what} {first} and {names[1]} {second}, expected the same",
            hint=_ALIGN_HINT,
        )


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a north-up grid."""
    t = grid.transform
    return t.c, t.f, t.c + t.a * grid.width, t.f + t.e * grid.height


def _largest_corner_shift_px(first: Grid, second: Grid) -> float:
    a, b = first.transform, second.transform
    shifts = []
    for columns, rows in ((0, 0), (first.width, first.height)):
        shifts.append(abs(b.c + b.a * columns - a.c - a.a * columns) / abs(a.a))
        shifts.append(abs(b.f + b.e * rows - a.f - a.e * rows) / abs(a.e))
    return float(max(shifts))


def _size(grid: Grid) -> str:
    return f"{grid.height} x {grid.width}"


def _crs(grid: Grid) -> str:
    return "none" if grid.crs is None else str(grid.crs.to_string())


def _numbers(transform: Any) -> str:
    return "(" + ", ".join(f"{value:.10g}" for value in tuple(transform)[:6]) + ")"
