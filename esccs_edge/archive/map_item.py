"""A map as a STAC item beside it, so that catalogs find it and viewers know its classes.

STAC 1.0.0 with the extensions classification, projection, file and processing
(https://github.com/stac-extensions).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..contracts.manifest import Manifest
from ..contracts.types import PathLike
from ..errors import InputError, RasterError
from ..rasters.grid import Grid, raster_grid
from ..rasters.products.metadata import time_of
from ..rasters.products.opener import address_of, is_remote
from ..rasters.raster_file import open_dataset, regular_file
from ..scenes.palette import class_colors
from ..scenes.summary import SceneSummary
from ..system.atomic import write_atomic
from ..system.path_text import path_text
from .content import file_sha256
from .footprint import footprint_of, polygons_of

_EXTENSIONS = (
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
)
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_NOT_KNOWN = "When the images were taken is not known; datetime is when the map was made."


def item_path_of(class_map: PathLike) -> Path:
    """Return where the item of a class map lies: ``map.tif`` -> ``map.stac.json``."""
    return Path(class_map).with_suffix(".stac.json")


def require_free_item(class_map: PathLike, *, overwrite: bool) -> None:
    """Refuse to map where another item or file would be replaced.

    Raises:
        RasterError: It exists and ``overwrite`` is False, or it is a folder.
    """
    path = item_path_of(class_map)
    if path.is_dir() or (path.exists() and not overwrite):
        raise RasterError(
            f"output {path} already exists", hint="Pass `overwrite=True` to replace it"
        )


def write_map_item(
    summary: SceneSummary,
    manifest: Manifest,
    rasters: Mapping[str, PathLike | None],
    sources: Mapping[str, PathLike | None],
    notes: Iterable[str] = (),
    season: tuple[str, str] | None = None,
) -> Path:
    """Write the STAC item of a finished map beside it.

    Args:
        summary: What mapping returned.
        manifest: Contract of the model.
        rasters: Modality name -> raster that was mapped; their tags ``ACQUIRED`` give the time.
        sources: Modality name -> what the user gave, for the links.
        notes: What to know of how the inputs were read.
        season: First and last day of a series, ``"YYYY-MM-DD"``, in place of these tags.

    Returns:
        The path of the item.

    Raises:
        InputError: The map is not where the summary says.
        RasterError: A raster cannot be read.
    """
    if not summary.class_map.is_file():
        raise InputError(f"{summary.class_map} is not there, expected a finished map")
    with open_dataset(regular_file(summary.class_map)) as dataset:
        grid = raster_grid(dataset, str(summary.class_map))
    outline = footprint_of(grid)
    created = datetime.now(timezone.utc)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": path_text(summary.class_map.stem),
        "geometry": outline,
        **({} if outline is None else {"bbox": _box(outline)}),
        "properties": {
            **(_times(rasters, created) if season is None else _span(*season)),
            "created": _text(created),
            "processing:software": {"esccs-edge": version("esccs-edge")},
            "esccs:model": manifest.name,
            "esccs:task": manifest.task,
            "esccs:class_shares": summary.class_shares,
            "esccs:mean_confidence": summary.mean_confidence,
            "esccs:nodata_share": summary.nodata_share,
            "esccs:flagged_patches": summary.flagged_patches,
            "esccs:notes": list(notes),
            **_projection(grid),
        },
        "links": [
            {"rel": "derived_from", "href": _href(path, summary.class_map), "title": name}
            for name, path in sources.items()
            if path is not None
        ],
        "assets": {
            "classes": {
                **_asset(summary.class_map, "Class of every pixel"),
                "classification:classes": _classes(manifest),
            },
            "scores": _asset(summary.scores, "Confidence and further scores in percent"),
        },
    }
    path = item_path_of(summary.class_map)
    write_atomic(path, json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _href(source: PathLike, class_map: Path) -> str:
    """Return the address of an input, or its path relative to the item."""
    if is_remote(source):
        return address_of(source)
    relative = os.path.relpath(source, class_map.parent)
    return quote(os.fsencode(Path(relative).as_posix()))


def _times(rasters: Mapping[str, PathLike | None], created: datetime) -> dict[str, Any]:
    known = []
    for path in rasters.values():
        if path is None:
            continue
        with open_dataset(regular_file(path)) as dataset:
            acquired = time_of((dataset.tags().get("ACQUIRED") or "").partition("+")[0])
        if acquired is not None:
            known.append(acquired)
    if not known:
        return {"datetime": _text(created), "description": _NOT_KNOWN}
    first, last = min(known), max(known)
    if first == last:
        return {"datetime": _text(first)}
    return {"datetime": None, "start_datetime": _text(first), "end_datetime": _text(last)}


def _span(first: str, last: str) -> dict[str, Any]:
    return {
        "datetime": None,
        "start_datetime": f"{first}T00:00:00Z",
        "end_datetime": f"{last}T23:59:59Z",
    }


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _box(outline: Mapping[str, Any]) -> list[float]:
    """Return west, south, east and north; west is greater across the antimeridian (RFC 7946)."""
    polygons = polygons_of(dict(outline))
    points = [point for polygon in polygons for ring in polygon for point in ring]
    south, north = min(p[1] for p in points), max(p[1] for p in points)
    sides = [(min(p[0] for p in part[0]), max(p[0] for p in part[0])) for part in polygons]
    if len(sides) == 1:
        return [sides[0][0], south, sides[0][1], north]
    west = min(low for low, high in sides if high == 180)
    east = max(high for low, high in sides if low == -180)
    return [west, south, east, north]


def _projection(grid: Grid) -> dict[str, Any]:
    if grid.crs is None:
        return {}
    code = grid.crs.to_epsg()
    named = {"proj:code": f"EPSG:{code}"} if code else {"proj:wkt2": grid.crs.to_wkt()}
    transform = [float(number) for number in tuple(grid.transform)[:6]]
    return {**named, "proj:shape": [grid.height, grid.width], "proj:transform": transform}


def _asset(path: Path, title: str) -> dict[str, Any]:
    return {
        "href": f"./{path_text(path.name)}",
        "type": _COG,
        "title": title,
        "roles": ["data"],
        "file:size": path.stat().st_size,
        "file:checksum": "1220" + file_sha256(path),  # multihash of SHA-256
    }


def _classes(manifest: Manifest) -> list[dict[str, Any]]:
    colors = class_colors(manifest.classes)
    return [
        {
            "value": value,
            "name": "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name),
            "title": name,
            "color_hint": "".join(f"{part:02X}" for part in colors[value]),
        }
        for value, name in enumerate(manifest.classes)
    ]
