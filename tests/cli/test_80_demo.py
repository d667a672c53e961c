"""The demo: a scene becomes georeferenced rasters, a map, a picture and a summary."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from support.small_segmenter import exported_segmenter
from support.tiny import tiny_bundle

from esccs_edge import example_pair
from esccs_edge.cli import main
from esccs_edge.cli.shell import CommandResult
from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.example import CORNER_M, example_scene
from esccs_edge.training.simulate.scene import simulate_scene

SIZE = 192
SEED = 5
FILES = {"optical.tif", "sar.tif", "map.tif", "map.scores.tif", "quicklook.png", "summary.json"}


REAL_FILES = FILES | {"clear.tif", "clear-map.tif", "clear-map.scores.tif"}


def invoked(out: Path, bundle: Path, *more: str | int):
    words = ["demo", "--out", out, "--bundle", bundle, "--backend", "cpu", *more]
    return CliRunner().invoke(main, [str(word) for word in words])


def run_demo(out: Path, bundle: Path, *more: str):
    return invoked(out, bundle, "--simulated", "--size", SIZE, *more)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("demo") / "bundle", 64).folder


@pytest.fixture(scope="module")
def demo(small):
    """One run: its folder and what it printed with --json."""
    out = small.parent / "out"
    result = run_demo(out, small, "--seed", str(SEED), "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def test_leaves_exactly_the_promised_files(demo):
    assert {path.name for path in demo[0].iterdir()} == FILES


def test_optical_is_a_georeferenced_sentinel2_raster(demo):
    with rasterio.open(demo[0] / "optical.tif") as optical:
        assert (optical.count, optical.dtypes[0], optical.nodata) == (13, "uint16", 0)
        assert optical.descriptions == SENTINEL2_L1C_BANDS
        assert optical.crs.is_projected and optical.res == (10, 10)
        assert optical.shape == (SIZE, SIZE)
        assert "simulated" in optical.tags()["ORIGIN"]


def test_sar_is_in_db_on_the_same_grid(demo):
    with rasterio.open(demo[0] / "sar.tif") as sar, rasterio.open(demo[0] / "optical.tif") as s2:
        assert (sar.descriptions, sar.dtypes[0]) == (("VV", "VH"), "float32")
        assert (sar.crs, sar.transform, sar.shape) == (s2.crs, s2.transform, s2.shape)
        assert -35 < sar.read().mean() < 0


def test_map_and_scores_are_cloud_optimized(demo):
    for name in ("map.tif", "map.scores.tif"):
        with rasterio.open(demo[0] / name) as raster:
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_picture_is_large_enough_to_read(demo):
    content = (demo[0] / "quicklook.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert min(struct.unpack(">II", content[16:24])) >= 400  # width and height in the PNG header


def test_summary_is_what_was_printed_and_says_simulated(demo):
    out, printed = demo
    saved = json.loads((out / "summary.json").read_text())
    assert saved == {key: value for key, value in printed.items() if key != "summary"}
    assert "simulated" in saved["origin"]
    assert printed["summary"] == str(out / "summary.json")


def test_agreement_is_counted_against_the_simulated_truth(demo, small):
    out, printed = demo
    scene = simulate_scene(SEED, SIZE)
    with rasterio.open(out / "map.tif") as raster:
        names = json.loads(raster.tags()["CLASSES"])
        found = raster.read(1)
    cells = [
        (scene.classes[truth] == names[answer], cloudy)
        for truth, answer, cloudy in zip(
            scene.labels.flat, found.flat, scene.cloud_mask.flat, strict=True
        )
        if scene.classes[truth] in names and answer != 255
    ]
    agreement = printed["agreement_with_simulated_truth"]
    assert agreement["counted_pixels"] == len(cells)
    assert agreement["overall"] == pytest.approx(np.mean([same for same, _ in cells]))
    assert agreement["under_cloud"] == pytest.approx(
        np.mean([same for same, cloudy in cells if cloudy])
    )
    assert agreement["cloud_share"] == pytest.approx(scene.cloud_mask.mean())


def test_same_seed_same_answer_and_a_second_run_replaces_the_first(demo, small):
    out, printed = demo
    result = run_demo(out, small, "--seed", str(SEED), "--json")
    again = json.loads(result.stdout)
    assert again["class_shares"] == printed["class_shares"]
    assert {path.name for path in out.iterdir()} == FILES


def test_text_output_says_where_the_files_are(small, tmp_path):
    result = run_demo(tmp_path / "out", small)
    assert result.exit_code == 0
    for name in FILES:
        assert str(tmp_path / "out" / name) in result.stdout
    assert "simulated" in result.stdout


@pytest.fixture(scope="module")
def real(small):
    """One run on the real scene: its folder and what it printed with --json."""
    out = small.parent / "real"
    result = invoked(out, small, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def test_the_real_scene_is_credited_wherever_it_stands(real):
    out, printed = real
    assert {path.name for path in out.iterdir()} == REAL_FILES
    for name in ("optical.tif", "sar.tif", "clear.tif"):
        with rasterio.open(out / name) as raster:
            assert (raster.shape, raster.crs, raster.res) == ((256, 256), "EPSG:32650", (10, 10))
            assert "SEN12MS-CR, CC BY 4.0" in raster.tags()["ORIGIN"]
    assert "SEN12MS-CR, CC BY 4.0" in printed["origin"]


def test_the_real_answer_is_compared_with_that_under_a_clear_sky(real):
    out, printed = real
    with rasterio.open(out / "map.tif") as cloudy, rasterio.open(out / "clear-map.tif") as clear:
        same = np.mean(cloudy.read(1) == clear.read(1))
    assert printed["agreement_with_clear_sky"] == pytest.approx(same)


def test_a_bundle_that_labels_pixels_maps_the_scene_too(tmp_path):
    pytest.importorskip("torch", reason="making a student needs torch")
    result = invoked(tmp_path / "out", exported_segmenter(tmp_path / "bundle").folder, "--json")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == REAL_FILES
    assert 0 <= json.loads(result.stdout)["agreement_with_clear_sky"] <= 1


def test_a_task_is_done_by_the_bundle_in_the_package(monkeypatch, tmp_path, small):
    asked = []
    monkeypatch.setattr(
        "esccs_edge.cli.demo_real.real_demo",
        lambda *found: asked.append(found) or CommandResult({}, ""),
    )
    words = ["demo", "--out", str(tmp_path), "--backend", "cpu", "--task", "semantic-segmentation"]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert asked == [(tmp_path, "land-cover", "cpu")]
    both = CliRunner().invoke(main, [*words, "--bundle", str(small)])
    assert both.exit_code == 2 and "leave one out" in both.stderr


def test_options_of_the_simulated_scene_are_refused_for_the_real_one(small, tmp_path):
    for words in (("--size", 256), ("--seed", 3)):
        line = ["demo", "--out", str(tmp_path / "out"), "--bundle", str(small), *map(str, words)]
        result = CliRunner().invoke(main, line, standalone_mode=False)
        assert isinstance(result.exception, click.UsageError)
        assert "add --simulated" in result.exception.message
    assert not (tmp_path / "out").exists()


def test_the_example_pair_is_real_and_fits_the_shipped_model():
    pair, scene = example_pair(), example_scene()
    assert (pair.optical.shape, pair.optical.dtype) == ((13, 64, 64), np.uint16)
    assert (pair.sar.shape, pair.sar.dtype) == ((2, 64, 64), np.float32)
    assert -35 < pair.sar.min() < pair.sar.max() <= 0
    assert scene.optical[3].mean() > 1.5 * scene.clear[3].mean()  # clouds are bright
    with pytest.raises(ValueError, match="read-only"):
        scene.sar[0, 0, 0] = 0


@pytest.mark.data
def test_the_example_scene_is_the_published_one(sample_data):
    folder, name = sample_data / "sen12ms-cr" / "triplet", "ROIs1970_fall_139_p839.tif"
    scene = example_scene()
    for kind, pixels in (("s2_cloudy", scene.optical), ("s2_cloudfree", scene.clear)):
        with rasterio.open(folder / kind / name) as raster:
            np.testing.assert_array_equal(raster.read(), pixels)
            assert (raster.transform.c, raster.transform.f) == pytest.approx(CORNER_M, abs=0.01)
    with rasterio.open(folder / "s1" / name) as raster:
        np.testing.assert_allclose(raster.read(), scene.sar, atol=0.00501)


def test_an_unknown_bundle_writes_nothing(tmp_path):
    result = run_demo(tmp_path / "out", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [[], ["--simulated", "--size", "128"]])
def test_runs_without_torch_and_onnx(small, tmp_path, more):
    code = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'onnx', 'onnxruntime', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "from esccs_edge.cli import main\n"
        "main(sys.argv[1:], prog_name='esccs-edge')\n"
    )
    words = ["demo", "--out", tmp_path / "out", "--bundle", small, *more]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
