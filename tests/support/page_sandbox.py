"""A folder in which the commands of a page find what they name: data, configurations, a run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np

from esccs_edge import example_pair
from esccs_edge.cli.demo_rasters import Ground, write_optical, write_sar
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.example import example_scene
from support.cli_parts import run
from support.products import write_sentinel1, write_sentinel2, zipped
from support.rasters import write_raster
from support.tiny_data import CLASSES, tiny_index
from support.tiny_maps import tiny_map_index
from support.tiny_series import write_fcn3d, write_worldcereal

REPOSITORY = Path(__file__).parents[2]
#: Whatever a configuration trains, one pass of small networks is enough to see that it does.
SMALLER = {
    r"epochs = \d+": "epochs = 1",
    r"width = \d+": "width = 4",
    r"members = \d+": "members = 1",
    r"batch_size = \d+": "batch_size = 8",
    r"draws = \d+": "draws = 1",
    r"crop = \d+": "crop = 64\nclasses = ['land', 'water']\n"
    "network = { widths = [4, 6, 8, 8], decoder = [8, 6, 6, 4, 4] }",
}
SMALL = """
threads = 1
teacher = {network = {width = 4, blocks = [1, 1]}, schedule = {epochs = 1, batch_size = 16}}
[auxiliary]
optical = {width = 4, blocks = [1, 1]}
sar = {width = 4, blocks = [1, 1]}
schedule = {epochs = 1, batch_size = 16}
[student]
optical = {width = 4, blocks = [1, 1]}
sar = {width = 4, blocks = [1, 1]}
schedule = {epochs = 1, batch_size = 16}
"""
TEST_OF_A_USER = """
def test_latency(benchmark, esccs_classifier, esccs_pairs):
    optical, sar = esccs_pairs[0]
    assert benchmark(esccs_classifier.classify, optical, sar).label
"""
CHIP, PLACES = 64, 6
DAYS = ("20230403", "20230520")


def write_sandbox(folder: Path) -> Path:
    """Write all that pages name, but for the run that some of them go on from."""
    ground = Ground("EPSG:32632", (600_000.0, 5_400_000.0), 10.0, "example")
    for suffix, pixels in (("", example_scene()), ("_patch", example_pair())):
        write_optical(folder / f"s2{suffix}.tif", pixels.optical, ground)
        write_sar(folder / f"s1{suffix}.tif", pixels.sar, ground)
    write_sentinel2(folder)
    zipped(write_sentinel1(folder))
    tiny_index(folder / "data")
    tiny_index(folder / "mine", seed=1)
    tiny_index(folder / "wide", size=CHIP)
    tiny_map_index(folder / "maps", count=12)  # enough held-out windows to calibrate on
    write_fcn3d(folder / "fields.hdf5")
    _write_places(folder / "crops-of-places")
    _write_season(folder / "season", Bundle.open("crop-series").copy(folder / "crops"))
    _write_chips(folder / "chips")
    _write_configurations(folder)
    (folder / "test_speed.py").write_text(TEST_OF_A_USER)
    (folder / "docs").symlink_to(REPOSITORY / "docs")
    (folder / "tests").mkdir()
    for name in ("benchmarks", "support"):
        (folder / "tests" / name).symlink_to(REPOSITORY / "tests" / name)
    _write_catalog(folder)
    return folder


def write_run(folder: Path) -> Path:
    """Train, export and calibrate what pages call ``runs/first``."""
    data = folder.parent / "of-the-run"
    index = tiny_index(data)
    (data / "small.toml").write_text(SMALL)
    bundle, held = folder / "bundle", folder / "heldout" / "index.csv"
    for words in (
        ("train", "--config", data / "small.toml", "--data", index, "--out", folder),
        ("export", bundle),
        ("calibrate", bundle, held),
    ):
        done = run(*words)
        assert done.exit_code == 0, done.output
    return folder


def _write_configurations(folder: Path) -> None:
    configurations = folder / "training" / "configs"
    configurations.mkdir(parents=True)
    for path in (REPOSITORY / "training" / "configs").glob("*.toml"):
        text = path.read_text(encoding="utf-8")
        for said, small in SMALLER.items():
            text = re.sub(rf"\b{said}", small, text)
        (configurations / path.name).write_text(text)
    shutil.copy(configurations / "segmentation-ombria.toml", folder / "maps.toml")
    (folder / "small.toml").write_text(SMALL)
    (folder / "run.toml").write_text('data = "data/index.csv"\nout = "runs/second"\n' + SMALL)


def _write_catalog(folder: Path) -> None:
    item = {"type": "Feature", "id": "scene", "assets": {
        "optical": {"href": str(folder / "s2_patch.tif")},
        "sar": {"href": str(folder / "s1_patch.tif")},
    }}  # fmt: skip
    catalog = {"type": "FeatureCollection", "features": [item]}
    (folder / "items.json").write_text(json.dumps(catalog))


def _write_places(folder: Path) -> None:
    folder.mkdir()
    for seed, name in enumerate(("2023_FRA", "2022_FRA")):
        write_worldcereal(folder / f"{name}_LPIS_POLY_110.geoparquet", seed=seed)


def _write_season(folder: Path, crops: Bundle) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, spec in crops.manifest.modalities.items():
        for day in DAYS:
            shape = (len(spec.channels), 8, 8)
            pixels = rng.uniform(300, 3000, shape).astype(np.uint16)
            if name == "sar":
                pixels = rng.normal(-12, 2, shape).astype(np.float32)
            write_raster(folder / f"{name}_{day}.tif", pixels)


def _write_chips(folder: Path) -> None:
    """Six triplets of six places, a judge of them, and one of the cloudy images as a texture."""
    rng = np.random.default_rng(0)
    (folder / "s2_cloudy").mkdir(parents=True)
    clear = rng.integers(300, 3000, (PLACES, 13, CHIP, CHIP)).astype(np.uint16)
    mask = np.zeros((PLACES, CHIP, CHIP), np.uint8)
    mask[:, :, CHIP // 2 :] = 1
    cloudy = np.where(mask[:, None] > 0, 6000, clear).astype(np.uint16)
    s1 = rng.integers(-2000, -500, (PLACES, 2, CHIP, CHIP)).astype(np.int16)
    ids = np.array([str(1000 * place + 1) for place in range(PLACES)])
    np.savez(folder / "triplets.npz", id=ids, s1=s1, cloudy=cloudy, clear=clear, mask=mask)
    write_raster(folder / "s2_cloudy" / "one.tif", cloudy[0])
    rows = [(i, r, c) for i in ids for r in range(0, CHIP, 16) for c in range(0, CHIP, 16)]
    said = np.full((len(rows), len(CLASSES)), 0.1, np.float32)
    said[np.arange(len(rows)), np.arange(len(rows)) % len(CLASSES)] = 0.8
    named, top, left = (np.array(part) for part in zip(*rows, strict=True))
    np.savez(folder / "judge.npz", id=named, row=top, col=left, probabilities=said,
             classes=np.array(CLASSES))  # fmt: skip
