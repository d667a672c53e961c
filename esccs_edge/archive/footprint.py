"""Where a scene lies on the earth: its outline as a GeoJSON polygon in EPSG:4326.

Edges get points between their corners, since a straight edge of a projected grid is curved in
longitude and latitude. An outline across the antimeridian becomes two polygons. A scene that
contains a pole is not supported: its outline does not enclose it.
"""

from __future__ import annotations

from typing import Any

from ..rasters.gdal import gdal_errors
from ..rasters.grid import Grid

LONGITUDE_LATITUDE = "EPSG:4326"
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
    outline = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    from rasterio.warp import transform_geom

    with gdal_errors("cannot find where the scene lies on the earth"):
        found = transform_geom(grid.crs, LONGITUDE_LATITUDE, outline)
    polygons = found["coordinates"]
    polygons = [polygons] if found["type"] == "Polygon" else polygons
    return geojson([[_counterclockwise(ring) for ring in polygon] for polygon in polygons])


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
