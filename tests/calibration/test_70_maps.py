"""Calibration of a task that the package does not know: one modality, a class per pixel, skips."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from support.toy_data import (
    UNKNOWN,
    answers,
    encoder_decoder_onnx,
    network_inputs,
    radar_image,
    toy_index,
)
from support.toy_task import CLASSES, toy_bundle

from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.calibration.accuracy import accuracy, label_agreement, loss_in_points, run_models
from esccs_edge.calibration.batches import load_batches
from esccs_edge.calibration.budget import CALIBRATION_BUDGET, Cost
from esccs_edge.calibration.quantize import quantize_student
from esccs_edge.calibration.recipe import insert_qdq, tensorrt_recipe
from esccs_edge.calibration.report import report_as_table
from esccs_edge.calibration.sampler import MAPS_PER_PAIR, draw_pairs
from esccs_edge.calibration.sanity import DataCheck
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import InputError, RasterError
from esccs_edge.rasters.pair_index import PairIndex
from esccs_edge.runtime.model import ModelRuntime
from esccs_edge.system.cpu_features import gains_by_int8


@pytest.fixture(scope="module")
def simple(tmp_path_factory) -> Bundle:
    return toy_bundle(tmp_path_factory.mktemp("simple") / "bundle")


@pytest.fixture(scope="module")
def skipping(tmp_path_factory) -> Bundle:
    bundle = toy_bundle(tmp_path_factory.mktemp("skipping") / "bundle")
    return bundle.add({"student.onnx": encoder_decoder_onnx(bundle.manifest)})


def calibrated(bundle: Bundle, folder) -> Bundle:
    index = toy_index(folder / "radar", bundle)
    return quantize_student(bundle.copy(folder / "int8"), index.folder / "index.csv")


@pytest.fixture(scope="module")
def int8(skipping, tmp_path_factory) -> Bundle:
    return calibrated(skipping, tmp_path_factory.mktemp("int8"))


# ---- which samples, and what they are judged by -------------------------------------------------


def test_strata_are_the_class_with_most_pixels_and_the_cloud_bin_and_nothing_is_hidden(
    simple, tmp_path
):
    index = toy_index(tmp_path, simple)
    pairs = draw_pairs(index, simple.manifest)
    for pair in (*pairs.calibration, *pairs.held_out):
        target = np.load(index.rows[pair.row].target)
        counts = np.bincount(target[target != UNKNOWN], minlength=len(CLASSES))
        assert counts[CLASSES.index(pair.label)] == counts.max()
        assert pair.modalities == ("radar",)
    assert len({pair.cloud_bin for pair in pairs.calibration}) == 5
    assert {index.rows[pair.row].split for pair in pairs.held_out} == {"train", "val"}


def test_rows_without_a_known_pixel_are_left_out(simple, tmp_path):
    index = toy_index(tmp_path, simple, count=40)
    rows = [replace(row, target=None) if i < 3 else row for i, row in enumerate(index.rows)]
    np.save(rows[3].target, np.full((16, 16), UNKNOWN, np.int16))
    pairs = draw_pairs(replace(index, rows=tuple(rows)), simple.manifest)
    used = {pair.row for pair in (*pairs.calibration, *pairs.held_out)}
    assert used and not used & {0, 1, 2, 3}


def test_maps_are_read_only_as_needed_and_those_of_test_rows_not_at_all(
    simple, tmp_path, monkeypatch
):
    index = toy_index(tmp_path, simple, count=100)
    rows = tuple(
        replace(row, split="test" if i < 20 else "val") for i, row in enumerate(index.rows)
    )
    np.save(rows[0].target, np.zeros((16, 16), np.float32))  # no class numbers
    read, original = [], PairIndex.load_target

    def load_target(self, i):
        read.append(i)
        return original(self, i)

    monkeypatch.setattr(PairIndex, "load_target", load_target)
    index = replace(index, rows=rows)
    draw_pairs(index, simple.manifest, calibration_pairs=8, held_out_pairs=8)
    assert len(read) == MAPS_PER_PAIR * 16 and min(read) >= 20


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (np.zeros((16, 16), np.float32), RasterError),
        (np.zeros((8, 16), np.int16), RasterError),
        (np.full((16, 16), 3, np.uint8), InputError),
    ],
)
def test_a_target_that_is_no_map_of_the_classes_is_refused(simple, tmp_path, target, error):
    index = toy_index(tmp_path, simple, count=20)
    np.save(index.rows[0].target, target)
    with pytest.raises(error, match="0-target"):
        draw_pairs(index, simple.manifest)


def test_maps_that_belong_to_other_images_are_refused(simple, tmp_path):
    index = toy_index(tmp_path, simple)
    targets = [row.target for row in index.rows]
    for shift, accepted in ((0, True), (40, False)):
        rows = [
            replace(row, target=target)
            for row, target in zip(index.rows, np.roll(targets, shift), strict=True)
        ]
        moved = replace(index, rows=tuple(rows))
        check = DataCheck()
        pairs = draw_pairs(moved, simple.manifest).held_out
        for batch in load_batches(moved, simple.manifest, pairs):
            check.add(batch)
        if accepted:
            assert check.require_real(seed=0)["radar_class_p_value"] <= 0.05
        else:
            with pytest.raises(InputError, match="no better than chance"):
                check.require_real(seed=0)


def test_accuracy_counts_known_pixels_and_its_error_counts_samples():
    labels = np.zeros((10, 4, 4), np.int64)
    labels[:, 0] = UNKNOWN
    right = np.zeros((10, 4, 4), np.uint16)
    wrong = right.copy()
    wrong[0] = 1  # one sample changes in all its pixels
    assert accuracy(right, labels).n == 10 * 12
    assert accuracy(wrong, labels).oa == pytest.approx(0.9)
    assert loss_in_points(right, wrong, labels) == pytest.approx((10, 10))
    assert label_agreement(right, wrong, labels) == pytest.approx((0.9, 0.1))
    unknown = right.copy()
    unknown[:, 0] = 1  # changes where no label is known
    assert label_agreement(right, unknown, labels) == (1, 0)


def test_of_every_model_the_classes_are_kept_and_the_error_of_its_logits(int8, skipping, tmp_path):
    manifest = int8.manifest
    index = toy_index(tmp_path, skipping, count=40)
    batches = list(load_batches(index, manifest, draw_pairs(index, manifest).held_out))
    assert len({len(batch.labels) for batch in batches}) == 2  # the last one is smaller
    models = {name: int8.read(name) for name in ("student.onnx", "student.int8.onnx")}
    found, labels = run_models(models, batches, manifest.logits)
    images = np.concatenate([batch.inputs["radar"] for batch in batches])
    spec = manifest.modalities["radar"]
    exact, rough = (
        answers(model, manifest, images * spec.std[0] + spec.mean[0]) for model in models.values()
    )
    np.testing.assert_array_equal(labels, np.concatenate([batch.labels for batch in batches]))
    for name, logits in zip(models, (exact, rough), strict=True):
        assert found[name].classes.dtype == np.uint16
        assert (found[name].classes == logits.argmax(axis=1)).mean() > 0.99
        assert found[name].logit_mse == pytest.approx(np.mean((logits - exact) ** 2), rel=0.02)
    assert found["student.int8.onnx"].logit_mse > 0


def test_maps_with_one_known_pixel_do_not_hide_a_loss():
    """Of 200 maps 20 are known in all pixels and stay right; of the others one pixel, and it flips.

    180 of 5300 known pixels change, one in each of 180 samples.
    """
    labels = np.full((200, 16, 16), UNKNOWN, np.int64)
    labels[:20] = labels[20:, 0, 0] = 0
    right = np.zeros((200, 16, 16), np.uint16)
    wrong = right.copy()
    wrong[20:] = 1
    cost = Cost.of(right, wrong, labels)
    assert (cost.loss, cost.loss_error) == pytest.approx((100 * 180 / 5300, 100 * 180**0.5 / 5300))
    assert cost.agreement == pytest.approx(1 - 180 / 5300)
    assert not CALIBRATION_BUDGET.allows(cost)


# ---- what becomes INT8 --------------------------------------------------------------------------


def test_every_convolution_but_the_head_becomes_int8_with_scales_per_output_channel(int8):
    model = onnx.load_from_string(int8.read("student.int8.onnx"))
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    producer = {o: n for n in model.graph.node for o in n.output}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and node.name != "head":
            assert producer[node.input[0]].op_type == "DequantizeLinear", node.name
            dequantize = producer[node.input[1]]
            weight, scales = (values[name] for name in dequantize.input[:2])
            axis = 1 if node.op_type == "ConvTranspose" else 0
            assert weight.dtype == np.int8 and scales.shape == (weight.shape[axis],), node.name
            assert [a.i for a in dequantize.attribute if a.name == "axis"] == [axis]
    assert values["head.weight"].dtype == np.float32
    assert int8.manifest.quantization["float_nodes"] == ["head"]


def test_the_residual_add_and_the_concatenation_read_as_tensorrt_fuses_them(int8):
    model = onnx.load_from_string(int8.read("student.int8.onnx"))
    producer = {o: n for n in model.graph.node for o in n.output}
    nodes = {node.name: node for node in model.graph.node}
    assert [producer[name].op_type for name in nodes["coarse2"].input] == [
        "Conv", "DequantizeLinear"
    ]  # fmt: skip
    readers = [n.op_type for n in model.graph.node if nodes["both"].output[0] in n.input]
    assert readers == ["QuantizeLinear"]


def test_a_transposed_convolution_in_groups_stays_float(skipping):
    model = onnx.load_from_string(skipping.read("student.onnx"))
    up = next(node for node in model.graph.node if node.name == "up")
    up.attribute.append(onnx.helper.make_attribute("group", 2))
    assert "up" in tensorrt_recipe(model).float_nodes


def test_tensorrt_rtx_builds_the_graph_without_a_gpu(int8, tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings", reason="the TensorRT-RTX wheels are x86-64 only")
    from esccs_edge.export.to_engine import build_engine

    report = build_engine(int8, flavor="rtx", precision="int8", out=tmp_path)
    assert report.path.stat().st_size == report.bytes > 10_000


# ---- what calibration and the runtime make of it ------------------------------------------------


@pytest.mark.parametrize("kind", ["simple", "skipping"])
def test_the_cpu_runtime_answers_like_onnx_runtime(request, tmp_path, kind):
    bundle = calibrated(request.getfixturevalue(kind), tmp_path)
    manifest = bundle.manifest
    backend = CpuBackend(bundle, manifest, max_batch=4, cache=False)
    described = backend.describe()
    assert described["precision"] == ("int8" if gains_by_int8() else "fp32")
    rng = np.random.default_rng(9)
    images = np.stack([radar_image(manifest, rng) for _ in range(8)])
    wanted = answers(bundle.read(described["model"]), manifest, images).argmax(axis=1)
    model = ModelRuntime(backend, manifest, bundle=bundle.identity)
    found = model.run_batch([{"radar": image} for image in images])
    model.close()
    labels = np.stack([answer.labels for answer in found])
    assert (labels == wanted).mean() > 0.99


def test_the_report_speaks_of_pixels_and_the_list_names_the_maps(int8):
    report = json.loads(int8.read("calibration.json"))
    held_out = report["pairs"]["held_out"]
    assert report["int8"]["overall"]["n"] == held_out * 14 * 16  # the two upper rows are unknown
    assert report["int8"]["overall"]["balanced_accuracy"] > 0.85
    assert report["label_agreement"] > 0.95
    assert {row["tensor"] for row in report["tensors"]} >= {"radar", "both", "up.weight"}
    assert all(row["sqnr_db"] > 15 for row in report["tensors"])
    assert "head; and" in report_as_table(report)
    rows = list(csv.DictReader(io.StringIO(int8.read("calibration-pairs.csv").decode())))
    assert {row["modalities"] for row in rows} == {"radar"}
    assert all(row["target"].endswith("-target.npy") and row["target_sha256"] for row in rows)


# ---- fine-tuning --------------------------------------------------------------------------------


def test_the_graph_that_learns_answers_like_the_int8_file(int8, tmp_path):
    torch = pytest.importorskip("torch")
    from esccs_edge.calibration.torch_graph import FakeQuantGraph

    model, quantized = (
        onnx.load_from_string(int8.read(name)) for name in ("student.onnx", "student.int8.onnx")
    )
    graph = FakeQuantGraph(model, quantized)
    recipe = tensorrt_recipe(model)
    assert set(graph.weights) == {f"{name}.weight" for name in recipe.convolutions}
    assert set(graph.log_scales) == set(recipe.activations)
    rng = np.random.default_rng(4)
    images = np.stack([radar_image(int8.manifest, rng) for _ in range(4)])
    inputs = network_inputs(int8.manifest, images)
    found = graph({n: torch.from_numpy(array) for n, array in inputs.items()})["class_scores"]
    wanted = answers(int8.read("student.int8.onnx"), int8.manifest, images)
    np.testing.assert_allclose(found.detach(), wanted, atol=0.02 * np.abs(wanted).max())
    found.square().sum().backward()
    for part in (graph.weights, graph.biases, graph.log_scales):
        for name, tensor in part.items():
            assert tensor.grad is not None and tensor.grad.abs().sum() > 0, name
    again = insert_qdq(graph.learned_into(model), recipe, graph.amax())
    assert [n.name for n in again.graph.node] == [n.name for n in quantized.graph.node]


def test_fine_tuning_comes_closer_to_the_logits_of_maps(skipping, int8, tmp_path):
    pytest.importorskip("torch")
    from esccs_edge.calibration.finetune import finetune

    manifest = int8.manifest
    index = toy_index(tmp_path, skipping)
    model = onnx.load_from_string(int8.read("student.onnx"))
    recipe = tensorrt_recipe(model)
    coarse = insert_qdq(model, recipe, dict.fromkeys(recipe.activations, 2.0))
    learned = finetune(
        model,
        coarse,
        recipe,
        draw_pairs(index, manifest).calibration,
        lambda chosen: load_batches(index, manifest, chosen),
        outputs=manifest.outputs,
        epochs=8,
        seed=0,
        progress=lambda done, total: None,
    )
    assert learned.facts["last_error"] < learned.facts["first_error"] / 2
    images = np.stack([radar_image(manifest, np.random.default_rng(i)) for i in range(8)])
    exact, before, after = (
        answers(content, manifest, images)
        for content in (
            int8.read("student.onnx"),
            coarse.SerializeToString(),
            learned.model.SerializeToString(),
        )
    )
    assert np.mean((after - exact) ** 2) < np.mean((before - exact) ** 2) / 2


def test_miou_is_that_of_the_confusion_matrix_and_its_error_that_of_places():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, (40, 6, 6))
    right = np.where(rng.random(labels.shape) < 0.8, labels, rng.integers(0, 3, labels.shape))
    before = np.maximum(right, 0).astype(np.uint16)
    after = before.copy()
    after[::8] = (after[::8] + 1) % 3
    known = labels >= 0
    ious = [
        ((before == k) & (labels == k) & known).sum()
        / (((before == k) | (labels == k)) & known).sum()
        for k in range(3)
    ]
    assert accuracy(before, labels).miou == pytest.approx(np.mean(ious))
    loss, error = loss_in_points(before, after, labels, "miou")
    assert loss == pytest.approx(100 * (np.mean(ious) - accuracy(after, labels).miou))
    draws = rng.integers(0, 40, (400, 40))
    resampled = [loss_in_points(before[d], after[d], labels[d], "miou")[0] for d in draws]
    assert error == pytest.approx(np.std(resampled), rel=0.2)
    assert loss_in_points(before, before, labels, "miou") == (0, 0)


def test_a_class_that_no_label_holds_does_not_count_in_miou():
    labels = np.zeros((4, 2, 2), np.int64)
    answers = labels.astype(np.uint16)
    answers[0, 0, 0] = 5
    assert accuracy(answers, labels).miou == pytest.approx(15 / 16)
