"""A segmentation student is exported with images of bytes, and nothing that only training needs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support.small_segmenter import (
    calibrated_segmenter,
    export_segmenter,
    exported_segmenter,
    segmenter_net,
    trained_segmenter,
)

from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.contracts.tensor import NOT_FINITE
from esccs_edge.errors import ArtifactError
from esccs_edge.export.answer_images import answer_images
from esccs_edge.export.parity import BACKEND_FP32_TOLERANCE as FP32
from esccs_edge.export.parity import check_parity, compare_outputs, run_backend
from esccs_edge.export.reference import read_reference
from esccs_edge.export.to_fp16 import float16_model

#: Nodes of the images: of the label, the confidence, the share and the scores, and a softmax.
IMAGE_NODES = {"ArgMax": 1, "ReduceMax": 1, "Softmax": 1, "Where": 2, "Round": 3}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exported_segmenter(tmp_path_factory.mktemp("segmenter") / "bundle")


@pytest.fixture(scope="module")
def model(exported):
    return onnx.load_from_string(exported.read("student.onnx"))


def run(model, inputs):
    content = model.SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_every_node_leads_to_an_output_and_no_weight_serves_training_alone(model, exported):
    graph = model.graph
    needed, ahead = set(), [output.name for output in graph.output]
    producer = {name: node for node in graph.node for name in node.output}
    while ahead:
        if (node := producer.get(ahead.pop())) is not None and node.name not in needed:
            needed.add(node.name)
            ahead.extend(node.input)
    assert needed == {node.name for node in graph.node}
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read
    trained = {name.split(".")[0] for name in segmenter_net(exported.manifest).state_dict()}
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    assert "removal" in trained and len(convolutions) == 3 + 3 + 2  # two streams, gate, head
    assert not [name for name in convolutions if name.startswith("removal")]
    kinds = [node.op_type for node in graph.node]
    assert {kind: kinds.count(kind) for kind in IMAGE_NODES} == IMAGE_NODES
    assert kinds.count("Resize") == 2 and "ConvTranspose" not in kinds


def test_images_are_what_numpy_makes_of_logits_and_gate(model, exported):
    inputs, _ = read_reference(exported)
    found, manifest = run(model, inputs), exported.manifest
    assert found.keys() == manifest.outputs.keys() | manifest.returned.keys()
    for name, image in answer_images(found, manifest).items():
        assert found[name].dtype == image.dtype == np.uint8
        assert (
            found[name].shape
            == image.shape
            == (len(inputs["optical"]), *manifest.returned[name].row)
        )
        difference = np.abs(np.subtract(found[name], image, dtype=np.int16))
        assert difference.max() <= (name != "label"), name  # half a unit may round either way
        assert difference.astype(bool).mean() < 0.01


def test_what_comes_back_is_a_quarter_of_the_network_s_outputs(exported):
    def size(tensors):
        return sum(np.dtype(t.dtype).itemsize * int(np.prod(t.row)) for t in tensors.values())

    manifest = exported.manifest
    assert size(manifest.returned) == (len(manifest.classes) + 3) * 32 * 32
    assert size(manifest.returned) < 0.3 * size(manifest.outputs)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("weight", "image"), [("head.bias", "confidence"), ("gate.bias", None)])
def test_what_is_not_finite_is_marked(model, exported, value, weight, image):
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    tensor = next(t for t in broken.graph.initializer if t.name == weight)
    values = np.full(tensor.dims, value, np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    inputs = {name: array[:2] for name, array in read_reference(exported)[0].items()}
    found = run(broken, inputs)
    if image is not None:
        assert (found[image] == NOT_FINITE).all()
    elif np.isnan(value):
        assert (found["optical_share"] == NOT_FINITE).all()
    else:  # a sigmoid of infinity is a share like any other
        assert set(np.unique(found["optical_share"])) == {100 if value > 0 else 0}


def test_float16_keeps_the_images_and_their_outputs_exact(exported, model):
    content = float16_model(exported.read("student.onnx"), exported.manifest.outputs)
    inputs, expected = read_reference(exported)
    half = onnx.load_from_string(content)
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in half.graph.initializer)
    found = run(half, inputs)
    assert (
        compare_outputs("fp16", found, inputs, expected, FP32, exported.manifest).label_agreement
        > 0.99
    )


def test_verify_compares_every_form_and_backend(tmp_path):
    bundle = calibrated_segmenter(tmp_path / "bundle")
    for precision in ("fp32", "int8"):
        backend = CpuBackend(bundle, bundle.manifest, max_batch=4, precision=precision)
        report = check_parity(bundle, backend)
        backend.close()
        rows = {row.name: row for row in report.rows}
        assert rows.keys() == {"student.onnx", "student.int8.onnx", f"backend cpu, {precision}"}
        assert rows["student.onnx"].label_agreement == 1
        assert all(row.label_agreement > 0.95 for row in report.rows)
        assert rows[f"backend cpu, {precision}"].worst.keys() == bundle.manifest.returned.keys()
        table = report.to_table().splitlines()
        assert table[1].startswith("student.int8.onnx   logits") and table[1].endswith(" %")
        assert len(table) == 1 + 6 + 6 + 4 and max(map(len, table)) < 80


def test_a_backend_with_other_answers_fails(exported):
    manifest = exported.manifest
    inputs, expected = read_reference(exported)
    backend = CpuBackend(exported, manifest, max_batch=4, precision="fp32")
    found = run_backend(backend, inputs, manifest)
    backend.close()

    def problem(**changes):
        return compare_outputs("x", {**found, **changes}, inputs, expected, FP32, manifest).problem

    assert problem() == ""
    assert "share of the labels is off by" in problem(label=(found["label"] + 1) % 4)
    assert "a confidence is off" in problem(confidence=found["confidence"] // 2)
    assert "one of the scores is off" in problem(scores=255 - found["scores"])
    hidden = found["optical_share"].copy()
    hidden[inputs["availability"][:, 0] == 0] = 1
    assert "an absent modality has a optical_share" in problem(optical_share=hidden)


def test_a_network_that_answers_a_nan_is_not_exported(tmp_path):
    import torch

    bundle = trained_segmenter(tmp_path / "bundle")
    student = segmenter_net(bundle.manifest)

    def broken(module, inputs, outputs):
        return outputs[0] * torch.nan, outputs[1]

    student.register_forward_hook(broken)
    with pytest.raises(ArtifactError, match="NaN"):
        export_segmenter(bundle, student)
    assert not (bundle.folder / "student.onnx").exists()
