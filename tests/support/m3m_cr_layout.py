"""Optical images for M3M-CR, whose own are not public: drawn from land cover and cloud mask."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

SIDE = 300


def write_raster(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile: Any = dict(
        driver="GTiff", height=pixels.shape[1], width=pixels.shape[2], count=len(pixels),
        dtype=pixels.dtype, crs="EPSG:32631", transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    )  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)


def with_optical(split: Path, root: Path, name: str) -> Path:
    """Copy a sample of the public repository and add what it lacks; returns the folder."""
    found = (path for path in split.rglob("*") if path.is_file())
    files = {path.relative_to(split).parts[0].split("_")[0]: path for path in found}
    with rasterio.open(files["landcover"]) as raster:
        codes = raster.read(1).astype(np.int64)
    cloud = np.load(files["cloudmask"])
    rows = (np.arange(SIDE) * 90 // SIDE)[:, None]
    clear = np.stack([400 + 10 * (band + 1) * codes[rows, rows.T] for band in range(4)])
    cloudy = np.where(cloud, 7000, clear)
    season = files["S1"].relative_to(split).parts[0].split("_")[1]
    number = files["S1"].parent.name.rsplit("_", 1)[1]
    stem = files["S1"].stem.removeprefix(f"S1_{season}_{number}_")
    cells = []
    for kind, source in (("planet_cloudfree", clear), ("planet_cloudy", cloudy), ("S1", None),
                         ("landcover", None), ("cloudmask", None)):  # fmt: skip
        suffix = ".npy" if kind == "cloudmask" else ".tif"
        place = f"{kind}_{season}"
        path = f"{place}/{place}_{number}/{place}_{number}_{stem}{suffix}"
        cells.append(path)
        target = root / name / path
        if source is not None:
            write_raster(target, source.astype(np.uint16))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(files[kind], target)
    (root / f"{name}.csv").write_text(",".join(cells) + "\n")
    return root
