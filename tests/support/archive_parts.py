"""Small archives for tests: rasters, the lists that name them, and the command that maps them."""

from __future__ import annotations

import json
from pathlib import Path

from support.rasters import random_scene, write_raster


def write_scenes(folder: Path, manifest, names, side: int = 40) -> list[dict]:
    """Write rasters ``NAME-optical.tif`` and ``NAME-sar.tif``; returns their STAC items."""
    for seed, name in enumerate(names):
        optical, sar = random_scene(manifest, side, side, seed)
        write_raster(folder / f"{name}-optical.tif", optical)
        write_raster(folder / f"{name}-sar.tif", sar)
    return [item(name, optical=f"{name}-optical.tif", sar=f"{name}-sar.tif") for name in names]


def item(name: str, **hrefs: str) -> dict:
    """Return a STAC item whose assets have the given keys and hrefs."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "assets": {key: {"href": href} for key, href in hrefs.items()},
    }


def write_items(path: Path, items) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def records(archive: Path) -> dict[str, dict]:
    """Return the records of finished scenes by id."""
    found = [json.loads(path.read_text()) for path in archive.glob("scenes/*/scene.json")]
    return {record["id"]: record for record in found}
