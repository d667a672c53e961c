"""A tiny data set in the layout of SEN12MS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio

SCENES = [("ROIs1158_spring", scene) for scene in (1, 2, 3, 4)] + [("ROIs1868_summer", 146)]


def write_sen12ms(
    root: Path, size: int = 8, scenes: Sequence[tuple[str, int]] = SCENES, classes: int = 10
) -> None:
    """Write two patches per scene; class and brightness follow the scene's number."""
    rng = np.random.default_rng(0)
    lines = []
    for season, scene in scenes:
        for patch in (30, 202):
            for sensor, bands, dtype in (("s1", 2, "float32"), ("s2", 13, "uint16")):
                name = f"{season}_{sensor}_{scene}_p{patch}.tif"
                path = root / season / f"{sensor}_{scene}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if sensor == "s1":
                    pixels = rng.uniform(-25, -5, (bands, size, size))
                else:
                    brightness = 1000 * (scene % classes)
                    pixels = rng.integers(500, 3000, (bands, size, size)) + brightness
                profile = dict(driver="GTiff", width=size, height=size, count=bands, dtype=dtype,
                               crs="EPSG:32631",
                               transform=rasterio.Affine(10, 0, 0, 0, -10, 0))  # fmt: skip
                with rasterio.open(path, "w", **profile) as raster:
                    raster.write(pixels.astype(dtype))
            lines.append(f"{season}_s2_{scene}_p{patch}.tif: {1 + scene % classes}")
    (root / "single_label_IGBPsimple_ClsNum.txt").write_text("\n".join(lines) + "\n")
