"""A task that the package does not know goes all the way: train, export, calibrate, verify, build
an engine, map a scene. It has one modality and answers with a map (`support.toy_task`)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.cli_parts import refused, run, run_json

from esccs_edge import Bundle, open_model

pytest.importorskip("torch", reason="training needs torch")
rasterio = pytest.importorskip("rasterio")

SIDE = 16
SCENE = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("toy-journey")


@pytest.fixture(scope="module")
def calibrated(folder) -> Bundle:
    """Trained, exported and calibrated by the commands that every bundle goes through."""
    from support.toy_learning import write_toy_data

    data = write_toy_data(folder / "toy.npz", count=160)
    config = folder / "run.toml"
    config.write_text('task = "toy-mapping"\nthreads = 1\n')
    run_json("train", "--config", config, "--data", data, "--out", folder / "run")
    bundle = folder / "run" / "bundle"
    run_json("export", bundle)
    run_json("calibrate", bundle, folder / "run" / "heldout" / "index.csv")
    return Bundle.open(bundle)


@pytest.fixture(scope="module")
def scene(folder):
    """Water in the left half of a scene that is no multiple of the patch size."""
    path = folder / "scene.tif"
    rng = np.random.default_rng(5)
    pixels = np.where(np.arange(SCENE) < SCENE // 2, -20.0, -8.0) + rng.normal(
        0, 1, (1, SCENE, SCENE)
    )
    with rasterio.open(
        path, "w", driver="GTiff", width=SCENE, height=SCENE, count=1, dtype="float32",
        crs="EPSG:32632", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), nodata=0,
    ) as dataset:  # fmt: skip
        dataset.write(pixels.astype(np.float32))
    return path


def test_the_chain_writes_every_file_of_a_bundle(calibrated):
    manifest = calibrated.manifest
    assert manifest.task == "toy-mapping" and manifest.model == "student.int8.onnx"
    assert manifest.quantization["balanced_accuracy"]["int8"] > 0.95
    wanted = {"student.safetensors", "student.onnx", "student.int8.onnx", "reference.npz",
              "calibration.json", "calibration-pairs.csv"}  # fmt: skip
    assert wanted <= manifest.files.keys()
    item = json.loads((calibrated.folder / "mlm.json").read_text())
    assert item["properties"]["mlm:output"][0]["result"]["dim_order"][-2:] == ["height", "width"]


def test_verify_holds_every_form_against_the_trained_network(calibrated):
    found = run_json("verify", calibrated.folder)
    names = json.dumps(found)
    assert "student.onnx" in names and "student.int8.onnx" in names


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_both_graphs_run_on_the_cpu(calibrated, precision):
    from support.toy_task import toy_pixels

    with open_model(calibrated, "cpu", precision=precision) as model:
        samples = [{"radar": toy_pixels(calibrated.manifest, seed)} for seed in range(5)]
        answers = model.run_batch(samples)
        assert model.backend.describe()["precision"] == precision
    assert all(answer.labels.shape == (SIDE, SIDE) for answer in answers)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_both_graphs_compile_to_engines_without_a_gpu(calibrated, folder, precision):
    pytest.importorskip("tensorrt_rtx_bindings")
    words = ("--flavor", "rtx", "--precision", precision, "--out", folder / f"{precision}.plan")
    assert run_json("build", calibrated.folder, *words)["bytes"] > 0


def test_map_draws_the_classes_of_a_scene(calibrated, scene, folder):
    out = folder / "map.tif"
    words = ("--input", f"radar={scene}", "--bundle", calibrated.folder, "--backend", "cpu")
    found = run_json("map", out, *words)
    with rasterio.open(out) as dataset:
        classes = dataset.read(1)
    wanted = np.where(np.arange(SCENE) < SCENE // 2, 1, 0)  # Water, Land
    assert classes.shape == (SCENE, SCENE) and (classes == wanted).mean() > 0.9
    assert found["class_shares"]["Water"] == pytest.approx(0.5, abs=0.1)
    with rasterio.open(found["scores"]) as dataset:
        assert dataset.count == 1  # confidence; there is no gate to show


def test_a_modality_that_the_model_does_not_read_is_refused(calibrated, scene, folder):
    words = ("--input", f"optical={scene}", "--bundle", calibrated.folder, "--backend", "cpu")
    assert "radar" in refused(run("map", folder / "other.tif", *words))
    assert not (folder / "other.tif").exists()
