"""Parity of a task that the package does not know: one modality, a map of logits, no gate."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.toy_data import encoder_decoder_onnx
from support.toy_task import toy_bundle

from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import ArtifactError
from esccs_edge.export.parity import FP32_TOLERANCE, check_parity
from esccs_edge.export.reference import (
    pack_reference,
    read_reference,
    reference_inputs,
    thinned,
)


def with_reference(bundle: Bundle) -> Bundle:
    """Add reference inputs and what ONNX Runtime makes of them, in place of a trained network."""
    import onnxruntime

    inputs = reference_inputs(bundle.manifest)
    session = onnxruntime.InferenceSession(bundle.read("student.onnx"))
    names = list(bundle.manifest.outputs)
    outputs = dict(zip(names, session.run(names, inputs), strict=True))
    return bundle.add({"reference.npz": pack_reference(inputs, outputs)})


@pytest.fixture
def toy(tmp_path) -> Bundle:
    bundle = toy_bundle(tmp_path / "toy")
    content = encoder_decoder_onnx(bundle.manifest)
    return with_reference(bundle.add({"student.onnx": content}))


def test_the_onnx_file_and_the_cpu_backend_agree_and_each_output_has_its_columns(toy):
    backend = CpuBackend(toy, toy.manifest, max_batch=4, threads=1, precision="fp32", cache=False)
    report = check_parity(toy, backend)
    backend.close()
    assert [row.name for row in report.rows] == ["student.onnx", "backend cpu, fp32"]
    for row in report.rows:
        assert set(row.worst) == set(row.allowed) == {"class_scores"}
        assert row.worst["class_scores"] < row.allowed["class_scores"]
        assert row.label_agreement == 1
    assert "worst class_scores" in report.to_table() and "gate" not in report.to_table()


def test_a_row_of_the_reference_is_present_partly_and_absent(toy):
    inputs, expected = read_reference(toy)
    assert inputs["availability"].ravel().tolist() == [1, 1, 0.75, 0]
    assert expected["class_scores"].shape == (4, 3, 16, 16)


def test_a_difference_is_measured_against_the_largest_logit_and_labels_per_pixel(toy):
    _, expected = read_reference(toy)
    largest = float(np.abs(expected["class_scores"]).max())
    (row,) = check_parity(toy).rows
    assert row.allowed["class_scores"] == pytest.approx(FP32_TOLERANCE.logits * largest)
    model = onnx.load_from_string(toy.read("student.onnx"))
    bias = next(t for t in model.graph.initializer if t.name == "head.bias")
    values = onnx.numpy_helper.to_array(bias) + np.float32([0, 0, 0.05 * largest])
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    with pytest.raises(ArtifactError, match=r"student\.onnx: a logit is off"):
        check_parity(toy.add({"student.onnx": model.SerializeToString()}))


@pytest.mark.parametrize("side", (16, 63, 64, 95, 128, 127, 500))
def test_of_a_large_map_a_grid_of_pixels_is_kept(side):
    pixels = np.arange(side * side, dtype=np.float32).reshape(1, 1, side, side)
    kept = thinned({"logits": pixels, "share": np.ones((6, 200), np.float32)})
    height, width = kept["logits"].shape[2:]
    assert height == width and min(side, 32) <= height < 64
    assert set(np.diff(kept["logits"][0, 0, 0])) == {-(-side // height)}
    assert kept["share"].shape == (6, 200)
    np.testing.assert_array_equal(thinned(kept)["logits"], kept["logits"])
