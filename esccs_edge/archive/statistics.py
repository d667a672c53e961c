"""The archive's table: one row per scene of the list, with its outline.

GeoParquet 1.1.0 where pyarrow is installed, else the same rows as GeoJSON. Either appears whole or
not at all, and replaces the table of an earlier run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..system.atomic import atomic_path, write_atomic
from .footprint import LONGITUDE_LATITUDE, polygons_of
from .record import SceneRecord

PARQUET_NAME = "statistics.parquet"
GEOJSON_NAME = "statistics.geojson"
#: Column -> pyarrow's name of its type; a column ``share_CLASS`` per class follows.
COLUMNS = {
    "id": "string", "status": "string", "reason": "string",
    "optical": "string", "sar": "string", "class_map": "string", "scores": "string",
    "height": "int64", "width": "int64", "patches": "int64", "refused_patches": "int64",
    "suspect_patches": "int64", "unfamiliar_patches": "int64",
    "mean_confidence": "double", "mean_gate_optical": "double", "nodata_share": "double",
    "seconds": "double", "backend": "string", "optical_sha256": "string", "sar_sha256": "string",
    "bundle_sha256": "string", "content_sha256": "string", "class_map_sha256": "string",
    "scores_sha256": "string",
}  # fmt: skip


def write_statistics(folder: Path, records: Sequence[SceneRecord], classes: Sequence[str]) -> Path:
    """Write the table into the archive's folder; returns its path."""
    has_pyarrow = find_spec("pyarrow") is not None
    path, stale = folder / PARQUET_NAME, folder / GEOJSON_NAME
    if has_pyarrow:
        _write_parquet(path, records, classes)
    else:
        path, stale = stale, path
        write_atomic(path, _geojson(records, classes))
    stale.unlink(missing_ok=True)
    return path


def wkb_of(geometry: dict[str, Any]) -> bytes:
    """Return a GeoJSON Polygon or MultiPolygon as well-known binary, little-endian."""
    polygons = [
        struct.pack("<BII", 1, 3, len(rings))
        + b"".join(
            struct.pack("<I", len(ring)) + b"".join(struct.pack("<2d", *point) for point in ring)
            for ring in rings
        )
        for rings in polygons_of(geometry)
    ]
    if geometry["type"] == "Polygon":
        return polygons[0]
    return struct.pack("<BII", 1, 6, len(polygons)) + b"".join(polygons)


def _row(record: SceneRecord, classes: Sequence[str]) -> dict[str, Any]:
    shares = {f"share_{name}": record.class_shares.get(name) for name in classes}
    return {name: getattr(record, name) for name in COLUMNS} | shares


def _geojson(records: Sequence[SceneRecord], classes: Sequence[str]) -> str:
    features = [
        {
            "type": "Feature",
            "id": record.id,
            "geometry": record.footprint,
            "properties": _row(record, classes),
        }
        for record in records
    ]
    collection = {"type": "FeatureCollection", "features": features}
    return json.dumps(collection, ensure_ascii=False, allow_nan=False) + "\n"


def _write_parquet(path: Path, records: Sequence[SceneRecord], classes: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = COLUMNS | {f"share_{name}": "double" for name in classes}
    columns = [pa.field(name, pa.type_for_alias(kind)) for name, kind in types.items()]
    metadata = {"geo": json.dumps(_geo_metadata(records))}
    schema = pa.schema([*columns, pa.field("geometry", pa.binary())], metadata=metadata)
    rows = [
        {**_row(record, classes), "geometry": record.footprint and wkb_of(record.footprint)}
        for record in records
    ]
    with atomic_path(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial)


def _geo_metadata(records: Sequence[SceneRecord]) -> dict[str, Any]:
    from rasterio.crs import CRS

    outlines = [record.footprint for record in records if record.footprint is not None]
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({str(outline["type"]) for outline in outlines}),
        "crs": CRS.from_string(LONGITUDE_LATITUDE).to_dict(projjson=True),
        "orientation": "counterclockwise",
        "edges": "planar",
    }
    if points := [point for outline in outlines for point in _points(outline)]:
        x, y = zip(*points, strict=True)
        column["bbox"] = [min(x), min(y), max(x), max(y)]
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _points(geometry: dict[str, Any]) -> Iterator[list[float]]:
    for rings in polygons_of(geometry):
        for ring in rings:
            yield from ring
