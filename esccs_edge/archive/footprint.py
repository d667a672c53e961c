"""Where a scene lies on the earth: its outline as a GeoJSON polygon in EPSG:4326.

Edges get points between their corners, since a straight edge of a projected grid is curved in
longitude and latitude. Longitudes are in [-180, 180]: an outline across the antimeridian becomes
two polygons, and one around a pole leads over it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..rasters.grid import Grid
from ..rasters.pixel_size import on_earth

#: Coordinate reference system of an outline.
LONGITUDE_LATITUDE = "EPSG:4326"
#: Longitude and latitude in degrees.
Point = tuple[float, float]
#: Parts into which an edge is cut. The outline of a Sentinel-2 tile (110 km) is then nowhere
#: farther than one of its pixels (10 m) from the true one.
_PARTS = 16


def footprint_of(grid: Grid) -> dict[str, Any] | None:
    """Return a GeoJSON Polygon or MultiPolygon, counterclockwise; None without a CRS.

    Raises:
        RasterError: The CRS has no way to longitude and latitude.
    """
    if grid.crs is None:
        return None
    t = grid.transform
    left, top = t.c, t.f
    right, bottom = t.c + t.a * grid.width, t.f + t.e * grid.height
    corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    ring = [
        (a[0] + (b[0] - a[0]) * i / _PARTS, a[1] + (b[1] - a[1]) * i / _PARTS)
        for a, b in zip(corners, corners[1:], strict=False)
        for i in range(_PARTS)
    ]
    longitudes, latitudes = on_earth(grid.crs, *zip(*ring, ring[0], strict=True))
    outline = _closed(list(zip(_unwrapped(longitudes), latitudes, strict=True)))
    return geojson([[_counterclockwise(part)] for part in _turns(outline)])


def _unwrapped(longitudes: Sequence[float]) -> list[float]:
    """Let longitudes go on beyond 180 where the outline crosses it; the first is in [-180, 180)."""
    found = [(longitudes[0] + 180) % 360 - 180]
    for longitude in longitudes[1:]:
        found.append(found[-1] + (longitude - found[-1] + 180) % 360 - 180)
    return found


def _closed(outline: list[Point]) -> list[Point]:
    """Lead an outline that goes once round the world over the pole that it encloses."""
    (first, latitude), (last, _) = outline[0], outline[-1]
    if abs(last - first) < 180:
        return outline
    pole = math.copysign(90.0, sum(y for _, y in outline))
    return [*outline, (last, pole), (first, pole), (first, latitude)]


def _turns(outline: list[Point]) -> list[list[Point]]:
    """Cut an outline at 180 + 360 n degrees and turn each part into [-180, 180]."""
    west, east = min(x for x, _ in outline), max(x for x, _ in outline)
    parts = []
    for turn in range(math.floor((west + 180) / 360), math.ceil((east + 180) / 360)):
        edge = 360 * turn - 180
        part = _cut(_cut(outline, edge, 1), edge + 360, -1)
        if len({x for x, _ in part}) > 1:
            parts.append([(x - 360 * turn, y) for x, y in part])
    return parts


def _cut(outline: list[Point], edge: float, side: int) -> list[Point]:
    """Return the part of a closed outline east (side 1) or west (-1) of a meridian."""
    kept: list[Point] = []
    for a, b in zip(outline, outline[1:], strict=False):
        if (a[0] - edge) * side >= 0:
            kept.append(a)
        if (a[0] - edge) * (b[0] - edge) < 0:
            kept.append((edge, a[1] + (b[1] - a[1]) * (edge - a[0]) / (b[0] - a[0])))
    return [*kept, *kept[:1]]


def geojson(polygons: list[list[list[list[float]]]]) -> dict[str, Any]:
    """Return one polygon as a Polygon, several as a MultiPolygon."""
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def polygons_of(geometry: dict[str, Any]) -> list[list[list[list[float]]]]:
    """Return the polygons of what `geojson` made."""
    coordinates: list[Any] = geometry["coordinates"]
    return [coordinates] if geometry["type"] == "Polygon" else coordinates


def _counterclockwise(ring: Any) -> list[list[float]]:
    points = [[float(x), float(y)] for x, y in ring]
    twice_area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:], strict=False))
    return points if twice_area > 0 else points[::-1]
