"""INT8: ranges, Q/DQ where TensorRT wants them, an honest report, nothing written on refusal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.small_student import calibrated_bundle, exported_bundle, small_index

from esccs_edge.calibration.accuracy import Answers, run_models
from esccs_edge.calibration.attempts import QuantizedModel, best_of
from esccs_edge.calibration.batches import load_batches
from esccs_edge.calibration.budget import Budget
from esccs_edge.calibration.observers import (
    AMAX_METHODS,
    BINS,
    PERCENTILE,
    Histogram,
    amax_by_entropy,
    amax_by_maximum,
    amax_by_percentile,
)
from esccs_edge.calibration.quantize import quantize_student
from esccs_edge.calibration.recipe import insert_qdq, tensorrt_recipe
from esccs_edge.calibration.report import report_as_table
from esccs_edge.calibration.sampler import draw_pairs
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import ArtifactError, InputError
from esccs_edge.rasters.pair_index import read_index
from esccs_edge.system.cpu_features import gains_by_int8, has_int8_dot_products


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Bundle:
    return calibrated_bundle(tmp_path_factory.mktemp("calibrated"))


@pytest.fixture(scope="module")
def index(tmp_path_factory, calibrated) -> Path:
    return small_index(tmp_path_factory.mktemp("pairs"), calibrated.manifest)


@pytest.fixture(scope="module")
def int8(calibrated) -> onnx.ModelProto:
    return onnx.load_from_string(calibrated.read("student.int8.onnx"))


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


finite = st.floats(-1e4, 1e4, width=32)


@given(st.lists(arrays(np.float32, st.integers(1, 50), elements=finite), min_size=1, max_size=5))
def test_a_histogram_counts_every_value_and_every_method_stays_below_the_largest(parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    values = np.abs(np.concatenate(parts))
    assert histogram.counts.sum() == values.size
    assert amax_by_maximum(histogram) == values.max()
    for method in AMAX_METHODS.values():
        assert 0 <= method(histogram) <= values.max()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_percentile_of_a_growing_histogram_is_that_of_the_values(seed, parts):
    rng = np.random.default_rng(seed)
    values = [rng.normal(0, 10.0**i, 5000).astype(np.float32) for i in range(parts)]
    histogram = Histogram()
    for part in values:
        histogram.add(part)
    exact = np.percentile(np.abs(np.concatenate(values)), PERCENTILE, method="inverted_cdf")
    assert amax_by_percentile(histogram) == pytest.approx(exact, abs=1.01 * histogram.limit / BINS)


def test_entropy_clips_a_lone_outlier_and_keeps_an_even_spread():
    rng = np.random.default_rng(0)
    spread, lone = Histogram(), Histogram()
    spread.add(rng.uniform(0, 1, 200_000).astype(np.float32))
    lone.add(np.append(np.abs(rng.normal(0, 1, 200_000)), 60).astype(np.float32))
    assert amax_by_entropy(spread) > 0.95
    assert 2 < amax_by_entropy(lone) < 10


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_overflows_is_refused(value):
    with pytest.raises(ArtifactError, match="finite"):
        Histogram().add(np.array([1, value], np.float32))


def test_a_tensor_that_is_always_zero_gets_a_usable_scale(calibrated):
    histogram = Histogram()
    histogram.add(np.zeros(10, np.float32))
    assert [method(histogram) for method in AMAX_METHODS.values()] == [0, 0, 0]
    model = onnx.load_from_string(calibrated.read("student.onnx"))
    recipe = tensorrt_recipe(model)
    quantized = insert_qdq(model, recipe, dict.fromkeys(recipe.activations, 0.0))
    assert all(constants(quantized)[f"{name}_scale"] > 0 for name in recipe.activations)


def test_all_quantization_is_symmetric_int8_with_positive_scales(int8):
    values = constants(int8)
    pairs = [n for n in int8.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        scale, zero_point = values[node.input[1]], values[node.input[2]]
        assert zero_point.dtype == np.int8 and not zero_point.any()
        assert scale.dtype == np.float32 and (scale > 0).all()


def test_weights_are_stored_as_int8_per_channel_and_no_float_copy_remains(int8):
    values = constants(int8)
    convolutions = [n for n in int8.graph.node if n.op_type == "Conv"]
    producer = {o: n for n in int8.graph.node for o in n.output}
    for node in convolutions:
        dequantize = producer[node.input[1]]
        weight, scale = (values[name] for name in dequantize.input[:2])
        assert weight.dtype == np.int8 and np.abs(weight.astype(int)).max() <= 127
        assert scale.shape == (weight.shape[0],)
        assert [a.i for a in dequantize.attribute if a.name == "axis"] == [0]
        assert values[node.input[2]].dtype == np.float32  # the bias
    assert not any(v.dtype == np.float32 and v.ndim == 4 for v in values.values())


def test_activations_have_one_scale_and_every_convolution_reads_int8(int8):
    values = constants(int8)
    producer = {o: n for n in int8.graph.node for o in n.output}
    for node in int8.graph.node:
        if node.op_type == "Conv":
            assert producer[node.input[0]].op_type == "DequantizeLinear"
        if node.op_type == "QuantizeLinear":
            assert values[node.input[1]].shape == ()


def test_only_the_shortcut_side_of_residual_adds_is_quantized(int8):
    producer = {o: n for n in int8.graph.node for o in n.output}
    adds = [n for n in int8.graph.node if n.op_type == "Add"]
    assert len(adds) == 4
    for node in adds:
        kinds = sorted(producer[name].op_type for name in node.input)
        assert kinds == ["Conv", "DequantizeLinear"]
        main = next(producer[n] for n in node.input if producer[n].op_type == "Conv")
        assert main.name.endswith("conv2")


def test_gate_pooling_and_head_stay_float(calibrated, int8):
    producer = {o: n for n in int8.graph.node for o in n.output}
    values = constants(int8)
    for node in int8.graph.node:
        if node.op_type in ("Gemm", "Softmax", "ReduceMean", "Mul", "Div", "Concat", "Clip"):
            for name in node.input:
                if name in values:
                    assert values[name].dtype != np.int8
                elif name in producer:
                    assert producer[name].op_type != "DequantizeLinear"
    assert calibrated.manifest.quantization["float_nodes"] == ["gate.hidden", "gate.score", "head"]


def test_float_stems_leave_the_network_inputs_alone(calibrated):
    recipe = tensorrt_recipe(
        onnx.load_from_string(calibrated.read("student.onnx")), float_stems=True
    )
    assert not {"optical", "sar"} & set(recipe.activations)
    assert {"optical.stem.0", "sar.stem.0"} <= set(recipe.float_nodes)


def with_wild_band(bundle: Bundle, band: int, factor: float) -> Bundle:
    """The same function of the pixels, but one band comes in a much larger unit."""
    model = onnx.load_from_string(bundle.read("student.onnx"))
    stem = next(t for t in model.graph.initializer if t.name == "optical.stem.0.weight")
    weight = onnx.numpy_helper.to_array(stem).copy()
    weight[:, band] /= factor
    stem.CopyFrom(onnx.numpy_helper.from_array(weight, stem.name))
    std = list(bundle.manifest.modalities["optical"].std)
    std[band] /= factor
    optical = replace(bundle.manifest.modalities["optical"], std=tuple(std))
    modalities = bundle.manifest.with_modality("optical", optical).modalities
    return bundle.add({"student.onnx": model.SerializeToString()}, modalities=modalities)


def test_stems_stay_float_when_one_scale_cannot_serve_all_bands(index, tmp_path):
    bundle = with_wild_band(exported_bundle(tmp_path / "b"), band=10, factor=2000.0)
    bundle = quantize_student(bundle, index, methods=("max",))
    report = json.loads(bundle.read("calibration.json"))
    assert report["float_stems"] and {"optical.stem.0", "sar.stem.0"} <= set(report["float_nodes"])
    assert report["balanced_accuracy_loss_points"] <= 1.0 + report["loss_standard_error_points"]
    assert report["label_agreement"] > 0.9


def test_an_int8_model_is_not_quantized_twice(int8):
    with pytest.raises(ArtifactError, match="already"):
        tensorrt_recipe(int8)


def test_the_bundle_runs_int8_and_says_how_it_was_made(calibrated):
    manifest = Bundle.open(calibrated.folder).manifest
    assert manifest.model == "student.int8.onnx"
    found = manifest.quantization
    assert found["method"] in AMAX_METHODS
    assert found["source_sha256"] == manifest.files["student.onnx"].sha256
    content = calibrated.read("calibration-pairs.csv")
    assert found["list_sha256"] == hashlib.sha256(content).hexdigest()
    assert found["label_agreement"] >= 0.95


def test_the_report_states_accuracy_size_and_error_of_every_tensor(calibrated, int8):
    report = json.loads(calibrated.read("calibration.json"))
    files = calibrated.manifest.files
    assert report["bytes"] == {
        name: files[name].bytes for name in ("student.onnx", "student.int8.onnx")
    }
    for form in ("fp32", "int8"):
        overall, bins = report[form]["overall"], report[form]["by_cloud"]
        assert overall["n"] == report["pairs"]["held_out"] == sum(b["n"] for b in bins.values())
        weighted = sum(b["oa"] * b["n"] for b in bins.values()) / overall["n"]
        assert weighted == pytest.approx(overall["oa"])
        assert overall["balanced_accuracy"] > 0.8
    assert {row["method"] for row in report["methods"]} == set(AMAX_METHODS)
    kinds = [row["kind"] for row in report["tensors"]]
    quantizers = sum(node.op_type == "QuantizeLinear" for node in int8.graph.node)
    assert kinds.count("activation") == quantizers
    assert kinds.count("weight") == sum(node.op_type == "Conv" for node in int8.graph.node)
    assert all(row["sqnr_db"] > 15 for row in report["tensors"])
    table = report_as_table(report)
    assert report["method"] in table and "cloud 0-20 %" in table and "SQNR" in table


def right_on(count: int, labels: np.ndarray) -> np.ndarray:
    """Answers of two classes that are right on the first ``count`` samples."""
    return np.where(np.arange(len(labels)) < count, labels, 1 - labels)


@pytest.mark.parametrize(
    ("right", "kept"),
    [
        ((180, 182), "exact"),  # two lucky flips do not outweigh a larger error of the logits
        ((150, 182), "right"),  # thirty-two do
    ],
)
def test_accuracy_decides_and_the_error_of_the_logits_where_accuracy_cannot(right, kept):
    labels = np.arange(200) % 2
    tried = [
        QuantizedModel(name, None, False, None, Answers(right_on(count, labels), error))
        for name, count, error in (("exact", right[0], 1e-4), ("right", right[1], 2.0))
    ]
    assert best_of(tried, labels).method == kept


def test_the_kept_method_is_in_the_report_with_the_others(calibrated):
    report = json.loads(calibrated.read("calibration.json"))
    best = max(row["balanced_accuracy"] for row in report["methods"])
    kept = next(row for row in report["methods"] if row["method"] == report["method"])
    assert kept["balanced_accuracy"] == pytest.approx(best, abs=0.1)
    assert kept["logit_mse"] > 0


def test_a_float_model_that_cannot_do_the_task_is_noted(calibrated, index, tmp_path):
    assert json.loads(calibrated.read("calibration.json"))["notes"] == []
    bundle = exported_bundle(tmp_path / "b")
    mixed_up = bundle.add({}, classes=bundle.manifest.classes[::-1])
    report = json.loads(quantize_student(mixed_up, index).read("calibration.json"))
    assert any("the float model is right on" in note for note in report["notes"])


def test_equal_data_and_seed_give_equal_files(calibrated, index, tmp_path):
    again = quantize_student(exported_bundle(tmp_path / "b"), index)
    for name in ("student.int8.onnx", "calibration.json", "calibration-pairs.csv"):
        assert again.read(name) == calibrated.read(name), name


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_openvino_gives_the_same_labels(calibrated, index, precision):
    from esccs_edge.backends.cpu.arithmetic import choose_arithmetic
    from esccs_edge.backends.cpu.openvino import ov

    if precision == "int8" and not has_int8_dot_products():
        pytest.skip("without INT8 dot products sums of 16 bits saturate; 'auto' avoids that")
    picked = choose_arithmetic(calibrated.manifest, precision)
    assert picked.is_int8 == gains_by_int8()
    pairs = read_index(index, calibrated.manifest.classes)
    chosen = draw_pairs(pairs, calibrated.manifest).held_out
    core = ov.Core()
    model = core.read_model(calibrated.read(picked.model))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": picked.hint})
    batches = list(load_batches(pairs, calibrated.manifest, chosen))
    exact, _ = run_models({"float": calibrated.read("student.onnx")}, batches, "logits")
    found = np.concatenate([compiled(batch.inputs)["logits"] for batch in batches])
    agreement = (found.argmax(1) == exact["float"].classes).mean()
    assert agreement >= 0.95  # one flip among 43 pairs is within what INT8 may cost


@pytest.mark.parametrize("model", ["student.onnx", "student.int8.onnx"])
def test_tensorrt_rtx_compiles_the_file_without_a_gpu(calibrated, model, tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings", reason="the TensorRT-RTX wheels are x86-64 only")
    from esccs_edge.export.to_engine import build_engine

    precision = "int8" if "int8" in model else "fp32"
    report = build_engine(calibrated, flavor="rtx", precision=precision, out=tmp_path)
    assert report.path.stat().st_size == report.bytes > 10_000


def test_a_loss_past_the_budget_is_refused_and_nothing_written(index, tmp_path):
    bundle = exported_bundle(tmp_path / "b")
    before = listing(bundle.folder)
    with pytest.raises(ArtifactError, match="points of balanced accuracy"):
        quantize_student(bundle, index, budget=Budget(-100.0, 0.0))
    assert listing(bundle.folder) == before


def test_random_pixels_are_refused_and_nothing_written(index, tmp_path):
    rng = np.random.default_rng(0)
    for row in read_index(index).rows:
        optical, sar = row.paths.values()
        shape = np.load(optical).shape
        np.save(tmp_path / optical.name, rng.integers(1, 10000, shape, np.uint16))
        np.save(tmp_path / sar.name, rng.normal(-14, 4, (2, *shape[1:])).astype(np.float32))
    (tmp_path / "index.csv").write_text(index.read_text())
    bundle = exported_bundle(tmp_path / "b")
    before = listing(bundle.folder)
    with pytest.raises(InputError, match="noise"):
        quantize_student(bundle, tmp_path / "index.csv")
    assert listing(bundle.folder) == before


@pytest.mark.parametrize("name", ["optical", "sar"])
def test_values_that_the_model_refuses_are_refused_and_nothing_written(index, tmp_path, name):
    for row in read_index(index).rows:
        for modality, path in row.paths.items():
            pixels = np.load(path)
            if modality == name:  # digital numbers as floats, or linear backscatter
                pixels = pixels.astype(np.float32) if name == "optical" else 10 ** (pixels / 10)
            np.save(tmp_path / path.name, pixels)
    (tmp_path / "index.csv").write_text(index.read_text())
    bundle = exported_bundle(tmp_path / "b")
    before = listing(bundle.folder)
    with pytest.raises(InputError, match="npy: .* values are about") as caught:
        quantize_student(bundle, tmp_path / "index.csv")
    assert caught.value.hint and listing(bundle.folder) == before


def test_an_unknown_method_and_unknown_labels_are_refused(index, tmp_path):
    bundle = exported_bundle(tmp_path / "b")
    with pytest.raises(InputError, match="methods"):
        quantize_student(bundle, index, methods=("mse",))
    other = bundle.add({}, classes=("A", "B", "C", "D"))
    with pytest.raises(InputError, match="labels"):
        quantize_student(other, index)


def test_an_empty_index_is_refused_and_nothing_written(index, tmp_path):
    (tmp_path / "empty.csv").write_text(index.read_text().splitlines()[0] + "\n")
    bundle = exported_bundle(tmp_path / "b")
    before = listing(bundle.folder)
    with pytest.raises(InputError, match="no pairs"):
        quantize_student(bundle, tmp_path / "empty.csv")
    assert listing(bundle.folder) == before


def test_a_bundle_that_was_not_exported_is_refused(index, tmp_path):
    from support.small_student import small_bundle

    with pytest.raises(ArtifactError, match=r"student\.onnx"):
        quantize_student(small_bundle(tmp_path / "b"), index)
