"""Parity finds what changed between the trained network and what is about to run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from support.small_student import calibrated_bundle, exported_bundle

from esccs_edge.backends.base import Backend, Lane, LaneOutput
from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import ArtifactError
from esccs_edge.export.parity import FP32_TOLERANCE, check_parity
from esccs_edge.export.reference import read_reference


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Bundle:
    return exported_bundle(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Bundle:
    return calibrated_bundle(tmp_path_factory.mktemp("calibrated"))


class Replayed(Backend):
    """Answers with given outputs; remembers the samples it got."""

    name, max_batch = "replayed", 4

    def __init__(self, outputs):
        self.outputs, self.seen = outputs, []

    def open_lane(self) -> Lane:
        return ReplayedLane(self)

    def describe(self):
        return {"precision": "fp32"}

    def close(self):
        pass


class ReplayedLane(Lane):
    def __init__(self, backend):
        self.backend = backend

    def start(self, batch):
        self.rows = slice(len(self.backend.seen), len(self.backend.seen) + len(batch))
        self.backend.seen.extend(batch)

    def finish(self):
        outputs = self.backend.outputs.items()
        return LaneOutput({name: array[self.rows] for name, array in outputs}, {})

    def close(self):
        pass


def test_an_exported_bundle_agrees_and_the_report_names_each_form(exported):
    report = check_parity(exported)
    (row,) = report.rows
    assert row.name == "student.onnx" and row.label_agreement == 1
    assert row.worst["logits"] < row.allowed["logits"]
    assert row.worst["gate"] < row.allowed["gate"] == FP32_TOLERANCE.share
    assert "student.onnx" in report.to_table()
    assert report.to_dict()["forms"][0]["problem"] == ""


def test_an_int8_bundle_is_held_to_both_tolerances(calibrated):
    rows = {row.name: row for row in check_parity(calibrated).rows}
    assert set(rows) == {"student.onnx", "student.int8.onnx"}
    exact, int8 = rows["student.onnx"], rows["student.int8.onnx"]
    assert int8.allowed["logits"] > 100 * exact.allowed["logits"]
    assert int8.worst["logits"] > exact.worst["logits"]


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_the_cpu_backend_agrees_from_raw_pixels(exported, calibrated, kind):
    bundle = exported if kind == "float" else calibrated
    backend = CpuBackend(bundle, bundle.manifest, max_batch=4, threads=1, precision="fp32")
    row = check_parity(bundle, backend).rows[-1]
    backend.close()
    assert row.name == "backend cpu" and row.label_agreement == 1


def test_a_change_of_five_percent_in_any_weight_is_found(exported, tmp_path):
    content = exported.read("student.onnx")
    names = [t.name for t in onnx.load_from_string(content).graph.initializer]
    weights = [name for name in names if name.endswith(".weight")]
    assert len(weights) == 15
    for name in weights:
        model = onnx.load_from_string(content)
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = onnx.numpy_helper.to_array(tensor) * np.float32(1.05)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
        changed = exported_bundle(tmp_path / name).add({"student.onnx": model.SerializeToString()})
        with pytest.raises(ArtifactError, match="student.onnx: a (logit|gate weight) is off"):
            check_parity(changed)


@pytest.mark.parametrize(
    ("scale", "factor"), [("sar_scale", 1 / 8), ("optical.stages.0.conv1.weight_scale", 2)]
)
def test_an_int8_file_with_a_wrong_scale_is_found(calibrated, tmp_path, scale, factor):
    model = onnx.load_from_string(calibrated.read("student.int8.onnx"))
    tensor = next(t for t in model.graph.initializer if t.name == scale)
    values = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, scale))
    changed = calibrated_bundle(tmp_path / "b").add(
        {"student.int8.onnx": model.SerializeToString()}
    )
    with pytest.raises(ArtifactError, match=r"student\.int8\.onnx: a logit is off"):
        check_parity(changed)


def test_an_int8_file_of_an_earlier_export_is_left_out(calibrated, tmp_path):
    bundle = calibrated_bundle(tmp_path / "b")
    model = onnx.load_from_string(bundle.read("student.onnx"))
    model.doc_string = "exported again"
    newer = bundle.add({"student.onnx": model.SerializeToString()}, quantization=None)
    assert [row.name for row in check_parity(newer).rows] == ["student.onnx"]


@pytest.mark.parametrize("fault", ["nan", "shifted", "gate of an absent modality"])
def test_a_backend_with_a_fault_is_refused(exported, fault):
    _, expected = read_reference(exported)
    outputs = {name: array.copy() for name, array in expected.items()}
    if fault == "nan":
        outputs["logits"][1, 2] = np.nan
    elif fault == "shifted":
        outputs["logits"] = np.roll(outputs["logits"], 1, axis=1)
    else:
        outputs["gate"][2] = (1 - 1e-5, 1e-5)
    with pytest.raises(ArtifactError, match="backend replayed"):
        check_parity(exported, Replayed(outputs))


def test_a_backend_gets_raw_pixels_with_absent_parts_marked(exported):
    inputs, expected = read_reference(exported)
    backend = Replayed(expected)
    check_parity(exported, backend)
    assert len(backend.seen) == len(inputs["availability"])
    assert backend.seen[2].pixels["sar"] is None and backend.seen[3].pixels["optical"] is None
    partial = backend.seen[4].pixels["optical"]
    share = np.isfinite(partial).all(axis=0).mean()
    assert share == pytest.approx(inputs["availability"][4, 0])
    low, high = exported.manifest.modalities["optical"].clip
    assert np.nanmin(partial) >= low - 1e-6 and np.nanmax(partial) <= high + 1e-6


def test_an_altered_reference_is_refused(exported, tmp_path):
    bundle = exported_bundle(tmp_path / "b")
    path = bundle.folder / "reference.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtifactError, match=r"reference\.npz"):
        check_parity(bundle)


def test_a_reference_of_another_model_is_refused(exported, tmp_path):
    bundle = exported_bundle(tmp_path / "b")
    sample = replace(bundle.manifest.sample, height=16, width=16)
    manifest = bundle.manifest.evolve(sample=sample)
    with pytest.raises(ArtifactError, match="expected float32"):
        read_reference(Bundle(bundle.folder, manifest))


def test_parity_needs_no_torch():
    program = "import sys, esccs_edge.export.parity; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/")
