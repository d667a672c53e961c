"""Tiny data sets in the published layout of SEN12MS-CR and in its two other forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio

SCENES = [("ROIs1158_spring", 1), ("ROIs1158_spring", 7), ("ROIs1970_fall", 1)]
SENSORS = {"s1": (2, "float32"), "s2": (13, "uint16"), "s2_cloudy": (13, "uint16")}


def write_sen12ms_cr(root: Path, size: int = 16) -> None:
    """Write two triplets per scene as published; the second patch has NaN in Sentinel-1."""
    rng = np.random.default_rng(0)
    for season, scene in SCENES:
        for patch in (30, 202):
            for sensor, (bands, dtype) in SENSORS.items():
                folder = root / f"{season}_{sensor}" / f"{sensor}_{scene}"
                pixels: Any = rng.integers(500, 3000, (bands, size, size))
                if sensor == "s1":
                    pixels = rng.uniform(-25, -5, (bands, size, size))
                    pixels[:, 0, 0] = np.nan if patch == 202 else -10.5
                write_tif(folder / f"{season}_{sensor}_{scene}_p{patch}.tif", pixels.astype(dtype))


def write_tif(path: Path, pixels: np.ndarray) -> None:
    """Write a raster on a grid that all files of the test share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile: Any = dict(
        driver="GTiff", width=pixels.shape[2], height=pixels.shape[1], count=len(pixels),
        dtype=pixels.dtype, crs="EPSG:32631", transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    )  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)


def write_npz(path: Path, ids: list[str], size: int = 16, **changes: Any) -> dict[str, np.ndarray]:
    """Write ``triplets.npz``; the left half of every image is masked as cloud."""
    rng = np.random.default_rng(1)
    count = len(ids)
    mask = np.zeros((count, size, size), np.uint8)
    mask[:, :, : size // 2] = 1
    arrays = {
        "id": np.array(ids),
        "s1": rng.integers(-2500, -500, (count, 2, size, size)).astype(np.int16),
        "cloudy": rng.integers(2000, 9000, (count, 13, size, size)).astype(np.uint16),
        "clear": rng.integers(200, 3000, (count, 13, size, size)).astype(np.uint16),
        "mask": mask,
    }
    arrays = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
    np.savez(path, **arrays)
    return arrays
