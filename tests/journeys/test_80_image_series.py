"""Image series all the way: the small 3-D FCN from HDF5 to an answer; the exact one compiles."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from support.cli_parts import refused, run, run_json
from support.rasters import north_up, write_raster
from support.tiny_series import write_fcn3d

from esccs_edge import Bundle, Flag, SeriesSegmenter
from esccs_edge.contracts.manifest import BatchProfile, Manifest
from esccs_edge.contracts.modality import ModalitySpec, SampleSpec
from esccs_edge.scenes.map_reader import read_map

pytest.importorskip("torch", reason="training needs torch")
h5py = pytest.importorskip("h5py", reason="its files are HDF5")

CONFIG = """
task = "series-segmentation"
threads = 1
[network]
widths = [8, 8, 16, 16]
decoder = [16, 8, 8, 8]
[schedule]
epochs = 30
batch_size = 2
learning_rate = 1e-2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("image-series")


@pytest.fixture(scope="module")
def calibrated(folder) -> Bundle:
    data = write_fcn3d(folder / "tiny.hdf5", count=40)
    config = folder / "run.toml"
    config.write_text(CONFIG)
    run_json("train", "--config", config, "--data", f"fcn3d:{data}", "--out", folder / "run")
    bundle = folder / "run" / "bundle"
    run_json("export", bundle)
    run_json("calibrate", bundle, folder / "run" / "heldout" / "index.csv")
    return Bundle.open(bundle)


def test_the_run_counts_pixels_and_the_forms_agree(calibrated):
    found = calibrated.manifest.provenance["metrics"]["test"]["student"]
    assert found["0"]["kappa"] > 0.8 and set(found["0"]["iou"]) == {"other", "corn", "soybean"}
    assert found["0.7"]["kappa"] < found["0"]["kappa"]
    assert calibrated.manifest.quantization["miou"]["int8"] > 0.75
    run_json("verify", calibrated.folder)


def test_the_graph_holds_the_exact_rewrites(calibrated):
    """No 5-D resize and no convolution over all dates; time stands in the channels instead."""
    model = onnx.load_from_string(calibrated.read("student.onnx"))
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    kernels = [shapes[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert [3, 8 * 5, 1, 1] in kernels and not any(k[2:] == [5, 1, 1] for k in kernels)
    values = {
        value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    ranks = {len(values[node.output[0]].type.tensor_type.shape.dim) for node in resizes}
    assert len(resizes) == 4 and ranks == {4}
    assert "If" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_series_is_answered_with_labels_and_the_dates_that_were_seen(
    calibrated, folder, precision
):
    with h5py.File(folder / "tiny.hdf5") as stored:
        images, truth = stored["data"][0], stored["truth"][0]
    series = np.ascontiguousarray(images.transpose(3, 2, 0, 1))  # (C, T, H, W)
    with SeriesSegmenter(calibrated, "cpu", precision=precision) as model:
        answer = model.segment(series, None)
        assert (answer.label == truth).mean() > 0.9 and answer.seen["optical"] == (1.0,) * 5
        series[:, 1] = 0
        series[:, :, :3, :3] = 0
        gappy = model.segment(series, None)
        assert gappy.seen["optical"][1] == 0 and 0.9 < gappy.seen["optical"][0] < 1
        assert (gappy.label[:3, :3] == 255).all() and (gappy.label[3:] != 255).all()
        assert Flag.PARTIAL_NODATA in gappy.flags
        assert model.health().ok


def test_a_folder_of_dates_becomes_a_map_and_a_picture(calibrated, folder, tmp_path):
    """Four stored series side by side; what they show is known, so is the map's truth."""
    with h5py.File(folder / "tiny.hdf5") as stored:
        images, truth = stored["data"][:4], stored["truth"][:4]
    (tmp_path / "season").mkdir()
    for date in range(5):
        pixels = np.concatenate(images[:, :, :, date], axis=0).transpose(2, 0, 1).astype(np.int16)
        pixels[:, :4] *= date != 2
        write_raster(
            tmp_path / "season" / f"2021-0{4 + date}-10.tif", pixels,
            transform=north_up(500_000.0, 4_600_000.0, 30.0, 30.0),
        )  # fmt: skip
    words = ("map", tmp_path / "season", tmp_path / "map.tif", "--bundle", calibrated.folder)
    found = run_json(*words, "--quicklook", tmp_path / "map.png")
    classes = read_map(tmp_path / "map.tif", 99).classes
    assert (classes == np.concatenate(truth)).mean() > 0.9 and classes.shape == (64, 16)
    assert [image["valid_share"] for image in found["images"]] == [1, 1, 1 - 4 / 64, 1, 1]
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    item = json.loads((tmp_path / "map.stac.json").read_text())
    assert item["properties"]["start_datetime"] == "2021-04-10T00:00:00Z"
    text = run(*words, "--overwrite").output
    assert "tenths of the scene seen" in text and "* * 9 * *" in text
    assert "2 arguments" not in text


def test_a_map_of_series_says_what_is_wrong_before_anything_is_written(calibrated, tmp_path):
    (tmp_path / "season").mkdir()
    raster = write_raster(tmp_path / "season" / "s2.tif", np.ones((6, 16, 16), np.int16))
    words = (tmp_path / "map.tif", "--bundle", calibrated.folder)
    assert "no date in its name" in refused(run("map", tmp_path / "season", *words))
    assert "dated rasters" in refused(run("map", raster, "-", *words))
    assert "single date" in refused(run("map", tmp_path / "season", tmp_path / "map.tif"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["season"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_small_network_compiles_without_a_gpu(calibrated, folder, precision):
    pytest.importorskip("tensorrt_rtx_bindings")
    words = ("--flavor", "rtx", "--precision", precision, "--out", folder / f"{precision}.plan")
    assert run_json("build", calibrated.folder, *words)["bytes"] > 0


def test_the_exact_network_is_exported_and_compiles_without_a_gpu(folder):
    """All 4.9 million parameters, 23 dates, six bands; images of 32 x 32 to keep the test short."""
    pytest.importorskip("tensorrt_rtx_bindings")
    import torch
    from safetensors.torch import save

    from esccs_edge.training.learning.tasks import learning_task

    optical = ModalitySpec(
        channels=("blue", "green", "red", "nir", "swir1", "swir2"), sensor="Landsat",
        level="surface reflectance", unit="reflectance", dn_scale=1e-4, dn_offset=0.0, nodata=0.0,
        clip=(0.0, 1.1), mean=(0.1,) * 6, std=(0.05,) * 6,
    )  # fmt: skip
    manifest = Manifest(
        name="fcn3d", classes=("other", "corn", "soybean"), modalities={"optical": optical},
        sample=SampleSpec(32, 32, 30.0, 23), task="series-segmentation",
        architecture={"widths": [32, 64, 128, 256], "decoder": [128, 64, 32, 16]},
        batch=BatchProfile(1, 1, 2),
    )  # fmt: skip
    torch.manual_seed(0)
    net = learning_task(manifest.task).network(manifest)
    bundle = Bundle.create(
        folder / "exact", manifest, {"student.safetensors": save(net.state_dict())}
    )
    run_json("export", bundle.folder)
    model = onnx.load_from_string(Bundle.open(bundle.folder).read("student.onnx"))
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert [3, 368, 1, 1] in shapes.values()
    plan = folder / "exact.plan"
    assert (
        run_json("build", bundle.folder, "--flavor", "rtx", "--precision", "fp32", "--out", plan)[
            "bytes"
        ]
        > 4_000_000
    )
