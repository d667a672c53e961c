"""Where the pixels of a raster lie on the ground, and whether two rasters lie on the same ones.

Two rasters are never resampled silently: they share a grid, or they are refused with both values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from ..errors import RasterError

#: Two grids are the same when their corners differ by less than this share of a pixel. Writers
#: round transforms differently; a shift that matters to a classifier is far larger.
GRID_TOLERANCE_PX = 0.01

#: Parts of a reference system beside its names and numbers.
_HORIZONTAL_PARTS = ("base_crs", "conversion", "datum", "datum_ensemble", "coordinate_system")
_NAMED = re.compile(r'[A-Z_]+\["([^"]*)"')

_ALIGN_HINT = "Bring both to one grid first: esccs-edge stack OPTICAL SAR --out pair"
_RPC_HINT = "Place it first: gdalwarp -rpc INPUT OUTPUT, with -to RPC_DEM=FILE for the heights"
_WARP_HINT = "Bring it to a north-up grid first: esccs-edge stack OPTICAL SAR --out pair"


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
        RasterError: The raster is rotated, south-up, or placed by control points or rational
            polynomials only.
    """
    grid = Grid(dataset.crs, dataset.transform, dataset.height, dataset.width)
    if not grid.is_georeferenced:
        if dataset.gcps[0]:
            raise RasterError(
                f"{name} is placed by {len(dataset.gcps[0])} ground control points, "
                "expected a regular grid",
                hint=_WARP_HINT,
            )
        if dataset.rpcs is not None:
            raise RasterError(
                f"{name} is placed by rational polynomials (RPC), expected a regular grid",
                hint=_RPC_HINT,
            )
        return grid
    if grid.transform.is_identity:
        raise RasterError(
            f"{name} has a coordinate reference system, but no geotransform that says where it "
            "lies in it",
            hint="Set it: gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM FILE; or look for the world "
            "file that was lost",
        )
    t = _unturned(grid)
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
    return replace(grid, transform=t)


def _unturned(grid: Grid) -> Any:
    """Return the transform without rotation terms that move no corner: what rounding leaves."""
    t = grid.transform
    across, down = abs(t.b) * grid.height, abs(t.d) * grid.width
    if across > GRID_TOLERANCE_PX * abs(t.a) or down > GRID_TOLERANCE_PX * abs(t.e):
        return t
    return type(t)(t.a, 0.0, t.c, 0.0, t.e, t.f)


def require_same_grid(first: Grid, second: Grid, names: tuple[str, str]) -> None:
    """Refuse two rasters whose pixels do not coincide.

    Heights are no matter: of a compound reference system the horizontal part counts.

    Raises:
        RasterError: One says where it lies and the other does not; or shape, CRS or transform
            differ; the message names both values.
    """
    _require_equal("height x width", _size(first), _size(second), names)
    if first.is_georeferenced != second.is_georeferenced:
        placed, lost = names if first.is_georeferenced else names[::-1]
        raise RasterError(
            f"{lost} does not say where it lies and {placed} does, so that nothing shows that they "
            "cover the same ground",
            hint=f"Give {lost} the coordinates that it lost: gdal_edit.py -a_srs EPSG:N -a_ullr "
            "LEFT TOP RIGHT BOTTOM FILE; or, if it is sure to lie on the same pixels, read both "
            "into arrays",
        )
    if not _is_same_crs(first.crs, second.crs):
        raise RasterError(
            f"{names[0]} has CRS {_crs(first)} and {names[1]} {_crs(second)}, expected the same",
            hint=_ALIGN_HINT,
        )
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
    if not _is_same_crs(finest.crs, other.crs):
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


def _is_same_crs(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return first is second
    return bool(first == second or _horizontal(first) == _horizontal(second))


def _horizontal(crs: Any) -> dict[str, Any]:
    """Return what says where a pixel lies, without its height, as PROJ spells it."""
    form = crs.to_dict(projjson=True)
    form = form.get("components", [form])[0]
    found = {part: form[part] for part in _HORIZONTAL_PARTS if part in form}
    system = found.get("coordinate_system", {})
    return {**found, "coordinate_system": {**system, "axis": system.get("axis", [])[:2]}}


def _crs(grid: Grid) -> str:
    """Return ``EPSG:32630``, or a name where it has no number."""
    if grid.crs is None:
        return "none"
    text = str(grid.crs.to_string())
    named = _NAMED.match(text)
    return f"{named[1]!r}" if named else text


def _numbers(transform: Any) -> str:
    return "(" + ", ".join(f"{value:.10g}" for value in tuple(transform)[:6]) + ")"
