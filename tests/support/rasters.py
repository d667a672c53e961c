"""Small georeferenced rasters for tests, written with rasterio directly."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

UTM = "EPSG:32630"


def north_up(left: float, top: float, pixel_x: float, pixel_y: float) -> Affine:
    return Affine(pixel_x, 0.0, left, 0.0, -pixel_y, top)


NORTH_UP = north_up(500_000.0, 4_600_000.0, 10.0, 10.0)


def write_raster(
    path: Path, pixels: np.ndarray, *, descriptions=None, tags=None, **profile
) -> Path:
    """Write ``(C, H, W)`` as a GeoTIFF on a UTM grid; ``profile`` overrides rasterio's options."""
    profile = {"driver": "GTiff", "crs": UTM, "transform": NORTH_UP, **profile}
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", width=width, height=height, count=count, dtype=pixels.dtype, **profile
        ) as dataset:
            dataset.write(pixels)
            if descriptions is not None:
                dataset.descriptions = descriptions
            for name, value in (tags or {}).items():
                setattr(dataset, name, value)
    return path


def random_scene(manifest, height: int, width: int, seed: int = 0):
    """Return random optical DN ``(C, H, W)`` uint16 and SAR ``(P, H, W)`` float32 dB."""
    rng = np.random.default_rng(seed)
    optical = rng.integers(
        200, 6000, (len(manifest.modalities["optical"].channels), height, width), np.uint16
    )
    sar = rng.normal(-14, 4, (len(manifest.modalities["sar"].channels), height, width)).astype(
        np.float32
    )
    return optical, np.clip(sar, -34, -1)
