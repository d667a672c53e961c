"""Parity finds what changed between the trained network and what is about to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from support.small_student import calibrated_bundle, exported_bundle, small_index
from support.tiny import linear_sar

from esccs_edge.backends.base import Backend, Lane, LaneOutput
from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import ArtifactError
from esccs_edge.export.parity import (
    BACKEND_FP32_TOLERANCE,
    FP32_TOLERANCE,
    REDUCED_TOLERANCE,
    check_parity,
)
from esccs_edge.export.reference import read_reference
from esccs_edge.system.cpu_features import gains_by_int8, has_int8_dot_products


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


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("float", "fp32"), ("float", "auto"), ("int8", "fp32"), ("int8", "auto"), ("int8", "int8")],
)
def test_the_cpu_backend_agrees_from_raw_pixels(exported, calibrated, kind, precision):
    if precision == "int8" and not has_int8_dot_products():
        pytest.skip("without INT8 dot products sums of 16 bits saturate; 'auto' avoids that")
    bundle = exported if kind == "float" else calibrated
    backend = CpuBackend(bundle, bundle.manifest, max_batch=4, threads=1, precision=precision)
    picked = backend.describe()["precision"]
    row = check_parity(bundle, backend).rows[-1]
    backend.close()
    assert row.name == f"backend cpu, {picked}" and row.label_agreement == 1
    tolerance = BACKEND_FP32_TOLERANCE if picked == "fp32" else REDUCED_TOLERANCE
    assert row.worst["gate"] <= row.allowed["gate"] == tolerance.share
    if kind == "int8" and precision == "auto":
        assert picked == ("int8" if gains_by_int8() else "fp32")
    elif precision != "auto":
        assert picked == precision


#: Run in a process of its own, since OpenVINO reads the limit once.
_JUDGE = """
import json, sys
import numpy as np, onnxruntime
from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.calibration.batches import load_batches
from esccs_edge.calibration.rows import load_pixels
from esccs_edge.calibration.sampler import draw_pairs
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.export.parity import check_parity
from esccs_edge.rasters.pair_index import read_index
from esccs_edge.system.cpu_features import gains_by_int8

bundle, index = Bundle.open(sys.argv[1]), read_index(sys.argv[2])
manifest = bundle.manifest
backend = CpuBackend(bundle, manifest, max_batch=64, threads=1, cache=False)
row = check_parity(bundle, backend).rows[-1]
described = backend.describe()
pairs = draw_pairs(index, manifest).held_out
lane = backend.open_lane()
samples = [load_pixels(index, pair.row, pair.modalities, manifest) for pair in pairs]
found = lane.answer(samples).outputs
session = onnxruntime.InferenceSession(bundle.read(described["model"]))
batches = load_batches(index, manifest, pairs)
wanted = np.concatenate([session.run(["logits"], batch.inputs)[0] for batch in batches])
print(json.dumps({
    "precision": described["precision"], "reason": described["precision_reason"],
    "gains": gains_by_int8(), "allowed_gate": row.allowed["gate"],
    "reference_agreement": row.label_agreement,
    "onnx_runtime_agreement": float((found["logits"].argmax(1) == wanted.argmax(1)).mean()),
}))
"""


@pytest.mark.parametrize("limit", ["AVX2", "DEFAULT"])
def test_an_int8_bundle_runs_in_float_where_int8_would_saturate_and_answers_right_on_any_cpu(
    calibrated, tmp_path, limit
):
    index = small_index(tmp_path, calibrated.manifest)
    done = subprocess.run(
        [sys.executable, "-c", _JUDGE, str(calibrated.folder), str(index)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if limit == "DEFAULT" and not found["gains"]:
        pytest.skip("INT8 gains nothing on this CPU")
    assert found["gains"] == (limit == "DEFAULT")
    if limit == "AVX2":
        assert found["precision"] == "fp32"
        assert "INT8" in found["reason"]
        assert found["allowed_gate"] == BACKEND_FP32_TOLERANCE.share
        assert found["onnx_runtime_agreement"] == 1
    else:
        assert found["precision"] == "int8"
        assert found["allowed_gate"] == REDUCED_TOLERANCE.share
        assert found["onnx_runtime_agreement"] >= 0.95
    assert found["reference_agreement"] == 1


@pytest.mark.fault(90)
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


@pytest.mark.fault(89)
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


@pytest.mark.fault(70)
def test_an_int8_file_of_an_earlier_export_is_left_out(calibrated, tmp_path):
    bundle = calibrated_bundle(tmp_path / "b")
    model = onnx.load_from_string(bundle.read("student.onnx"))
    model.doc_string = "exported again"
    newer = bundle.add({"student.onnx": model.SerializeToString()}, quantization=None)
    assert [row.name for row in check_parity(newer).rows] == ["student.onnx"]


@pytest.mark.fault(89)
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


def test_a_backend_gets_linear_backscatter_where_the_manifest_says_so(exported):
    linear = Bundle(exported.folder, linear_sar(exported.manifest))
    backend = CpuBackend(linear, linear.manifest, max_batch=4, threads=1, precision="fp32")
    row = check_parity(linear, backend).rows[-1]
    backend.close()
    assert row.name.startswith("backend cpu") and row.label_agreement == 1


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
