"""How near a map comes to its two parts, and what memory a whole tile takes.

A scene as wide as a Sentinel-2 tile repeats the example scene, which is real. In each round the
same rows are read alone, classified alone, and mapped; a map can be no faster than the slower part,
so its speed is given as a share of that, of one round, since the speed of a shared machine drifts.
Where others use the cores, waiting for them decides; the processor's time per patch says what a map
costs beside its parts. Memory is the high-water mark of a process that maps once.

    python tests/benchmarks/scene_speed.py [--height 10980] [--stride 64] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

from esccs_edge import Classifier, classify_scene
from esccs_edge.example import example_scene
from esccs_edge.rasters.reader import open_scene
from esccs_edge.scenes.scene_run import COLUMNS_AT_ONCE
from esccs_edge.scenes.tiling import Tiling

WIDTH = 10_980
#: Mapped apart, so that the high-water mark is that of the map alone.
CHILD = """
import json, sys, time
from esccs_edge import Classifier, classify_scene
def peak_mb():
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) // 1024

with Classifier(backend="cpu") as classifier:
    classifier.warmup()
    before = peak_mb()
    begin = time.perf_counter()
    classify_scene(classifier, *sys.argv[1:4], stride=int(sys.argv[4]), overwrite=True)
    took_s = time.perf_counter() - begin
print(json.dumps({"before_mb": before, "peak_mb": peak_mb(), "seconds": round(took_s, 1)}))
"""


def write_scene(folder: Path, height: int) -> tuple[Path, Path]:
    """Write the example scene side by side until it has ``height`` x `WIDTH` pixels."""
    scene, paths = example_scene(), []
    for name in ("optical", "sar"):
        image = getattr(scene, name)
        paths.append(folder / f"{name}-{height}.tif")
        across = np.tile(image, (1, 1, -(-WIDTH // image.shape[2])))[:, :, :WIDTH]
        with rasterio.open(
            paths[-1], "w", driver="GTiff", width=WIDTH, height=height, count=len(image),
            dtype=image.dtype, crs="EPSG:32630", transform=Affine(10, 0, 5e5, 0, -10, 4e6),
            tiled=True, blockxsize=256, blockysize=256, interleave="band", BIGTIFF="IF_SAFER",
        ) as raster:  # fmt: skip
            for row in range(0, height, image.shape[1]):
                part = across[:, : height - row]
                window = rasterio.windows.Window(0, row, WIDTH, part.shape[1])
                raster.write(part, window=window)
    return paths[0], paths[1]


def read_alone(paths: tuple[Path, Path], classifier: Classifier, stride: int) -> list:
    """Read all rows as a map does; returns the patches of one of them."""
    manifest = classifier.manifest
    size = manifest.sample.height
    given = dict(zip(("optical", "sar"), paths, strict=True))
    with open_scene(given, manifest.modalities, manifest.sample.pixel_size_m) as scene:
        tiling = Tiling.of(scene.grid.height, scene.grid.width, size, stride)
        for row in tiling.rows:
            for column in range(0, tiling.columns[-1] + size, COLUMNS_AT_ONCE):
                width = min(COLUMNS_AT_ONCE, tiling.columns[-1] + size - column)
                scene.read(row, column, size, width)
        part = scene.read(0, 0, size, COLUMNS_AT_ONCE)
    places = range(0, COLUMNS_AT_ONCE - size + 1, stride)
    return [[image[:, :, i : i + size] for image in part.values()] for i in places]


class Clock:
    """Seconds, and those of the processor, since it was made."""

    def __init__(self) -> None:
        self._begin = time.perf_counter(), time.process_time()

    def per_patch(self, patches: int) -> tuple[float, float]:
        now = time.perf_counter(), time.process_time()
        wall_s, cpu_s = (end - begin for begin, end in zip(self._begin, now, strict=True))
        return wall_s / patches, cpu_s / patches


def rounds(paths: tuple[Path, Path], out: Path, stride: int, count: int) -> list[dict[str, float]]:
    """Return patches per second and milliseconds of the processor per patch, in turns."""
    found = []
    with Classifier(backend="cpu") as classifier:
        classifier.warmup()
        for _ in range(count):
            clock = Clock()
            summary = classify_scene(classifier, *paths, out, stride=stride, overwrite=True)
            steps = {"map": clock.per_patch(summary.patches)}
            clock = Clock()
            patches = read_alone(paths, classifier, stride)
            steps["read"] = clock.per_patch(summary.patches)
            opticals, sars = zip(*patches, strict=True)
            groups = -(-summary.patches // len(patches))
            clock = Clock()
            for _ in range(groups):
                classifier.classify_batch(opticals, sars)
            steps["classify"] = clock.per_patch(groups * len(patches))
            row = {f"{name}_per_s": 1 / wall_s for name, (wall_s, _) in steps.items()}
            row |= {f"{name}_cpu_ms": 1000 * cpu_s for name, (_, cpu_s) in steps.items()}
            parts = min(row["read_per_s"], row["classify_per_s"])
            found.append({**row, "share": row["map_per_s"] / parts})
    return found


def main() -> None:
    """Print one JSON line per round, then the middle one's share and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=WIDTH)
    parser.add_argument("--strip", type=int, default=1_098, help="rows that rounds are timed on")
    parser.add_argument("--stride", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        strip = write_scene(folder, given.strip)
        found = rounds(strip, folder / "strip-map.tif", given.stride, given.rounds)
        for speeds in found:
            print(json.dumps({key: round(value, 3) for key, value in speeds.items()}), flush=True)
        print(f"share: {statistics.median(speeds['share'] for speeds in found):.3f}", flush=True)
        whole = write_scene(folder, given.height)
        words = [*map(str, whole), str(folder / "map.tif"), str(given.stride)]
        answer = subprocess.run(
            [sys.executable, "-c", CHILD, *words], check=True, capture_output=True, text=True
        )
        print(f"{given.height} x {WIDTH} pixels: {answer.stdout.strip()}")


if __name__ == "__main__":
    main()
