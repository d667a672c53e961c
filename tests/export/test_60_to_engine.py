"""Real builds with the TensorRT for RTX compiler, which needs no GPU.

What is not seen here: an engine that runs. That needs a GPU (`gpu` tests in tests/backends/trt).
"""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from support.tiny import tiny_bundle, tiny_manifest, tiny_onnx
from support.toy_task import toy_bundle

from esccs_edge.backends.trt.library import load_engine, pick_flavor
from esccs_edge.cuda.probe import driver_present, probe_driver
from esccs_edge.errors import ArtifactError, BackendError, InputError, MissingDependencyError
from esccs_edge.export import to_engine
from esccs_edge.export.to_engine import build_engine
from esccs_edge.export.to_fp16 import add_float16, float16_model

#: Logits of a few units in float16, through about six convolutions of half an ulp each.
FLOAT16_ATOL = 0.05

rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT for RTX is not installed (x86-64 only): pip install esccs-edge[rtx]",
)
no_gpu = pytest.mark.skipif(driver_present(), reason="this host has a GPU; the test is about none")


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A small real student as training leaves it: exported, then calibrated to INT8."""
    pytest.importorskip("torch", reason="exporting a student needs torch")
    from support.small_student import small_bundle, small_index

    from esccs_edge.calibration.quantize import quantize_student
    from esccs_edge.export.to_onnx import export_student

    folder = tmp_path_factory.mktemp("student")
    bundle = export_student(small_bundle(folder / "bundle"))
    return quantize_student(bundle, small_index(folder / "pairs", bundle.manifest))


def _inputs(manifest, count=6, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {name: (count, *tensor.row) for name, tensor in manifest.inputs.items()}
    feed = {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    feed["availability"] = np.array([[1, 1], [1, 0], [0, 1]], np.float32).repeat(2, axis=0)
    return feed


@rtx
@no_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_compiles_without_a_gpu(student, tmp_path, precision):
    report = build_engine(student, precision=precision, out=tmp_path, target="8.6")

    assert report.path.name == f"sm-86.{precision}.rtx.plan"
    content = report.path.read_bytes()
    assert len(content) == report.bytes > 10_000
    record = json.loads(report.record_path.read_text())
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bundle"]["manifest_sha256"] == student.digest
    assert record["profile"] == {"min": 1, "opt": 4, "max": 8}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [report.path.name, report.record_path.name]
    )


@rtx
@no_gpu
def test_precisions_are_really_different_engines(student, tmp_path):
    reports = [build_engine(student, precision=p, out=tmp_path) for p in ("fp32", "fp16", "int8")]
    assert len({report.sha256 for report in reports}) == 3
    assert len({report.bundle["onnx_sha256"] for report in reports}) == 3
    assert {report.target for report in reports} == {"portable"}


@rtx
@no_gpu
def test_progress_is_reported_phase_by_phase(tmp_path):
    seen = []
    bundle = tiny_bundle(tmp_path / "b")
    build_engine(bundle, precision="fp32", progress=lambda *step: seen.append(step))

    phases = {phase for phase, _, _ in seen}
    assert "Building engine" in phases and len(phases) > 3
    assert all(0 <= done <= steps for _, done, steps in seen)


@pytest.mark.fault(66)
@rtx
@no_gpu
@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError("bar is gone")])
def test_what_the_progress_callback_raises_stops_the_build_and_writes_nothing(tmp_path, raised):
    def stop(phase, done, steps):
        raise raised

    bundle = tiny_bundle(tmp_path / "b")
    before = sorted(p.name for p in bundle.folder.iterdir())
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        build_engine(bundle, precision="fp32", progress=stop)
    assert sorted(p.name for p in bundle.folder.iterdir()) == before


@pytest.mark.parametrize("precision, command", [("int8", "calibrate"), ("fp32", "export")])
def test_missing_precision_file_names_the_command_that_makes_it(tmp_path, precision, command):
    from esccs_edge.contracts.bundle import Bundle

    bundle = Bundle.create(tmp_path / "b", tiny_manifest(), {"student.safetensors": b"x"})
    with pytest.raises(ArtifactError, match=f"esccs-edge {command}"):
        build_engine(bundle, precision=precision)


def test_altered_model_is_refused_before_it_is_parsed(tmp_path):
    bundle = tiny_bundle(tmp_path / "b")
    path = bundle.folder / "student.onnx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="sha256"):
        build_engine(bundle, precision="fp32")


@rtx
@no_gpu
def test_garbage_with_a_right_digest_is_an_artifact_error(tmp_path):
    from esccs_edge.contracts.bundle import Bundle

    bundle = Bundle.create(tmp_path / "b", tiny_manifest(), {"student.onnx": b"not an onnx file"})
    with pytest.raises(ArtifactError):
        build_engine(bundle, precision="fp32")


@rtx
@no_gpu
def test_model_that_contradicts_its_manifest_is_refused(tmp_path):
    from esccs_edge.contracts.bundle import Bundle

    wrong = tiny_onnx(tiny_manifest(patch_size=8))
    bundle = Bundle.create(tmp_path / "b", tiny_manifest(patch_size=16), {"student.onnx": wrong})
    with pytest.raises(ArtifactError, match=r"13, 8, 8.*13, 16, 16"):
        build_engine(bundle, precision="fp32")


@rtx
@no_gpu
def test_network_the_target_cannot_run_gives_tensorrts_own_reason(tmp_path):
    with pytest.raises(BackendError, match="Turing"):
        build_engine(tiny_bundle(tmp_path / "b"), precision="fp32", target="7.5")


@rtx
@no_gpu
def test_unknown_target_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"'9\.0'.*'8\.6'"):
        build_engine(tiny_bundle(tmp_path / "b"), precision="fp32", target="9.0")


@rtx
@no_gpu
def test_building_for_this_gpu_without_one_is_refused_before_tensorrt_is_touched(tmp_path):
    with pytest.raises(BackendError, match="no CUDA driver"):
        build_engine(tiny_bundle(tmp_path / "b"), precision="fp32", target="current")


@rtx
@no_gpu
def test_unwritable_folder_is_named(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot write the engine"):
        build_engine(tiny_bundle(tmp_path / "b"), precision="fp32", out=blocker / "sub")


def test_unknown_flavor_and_precision_are_refused(tmp_path):
    bundle = tiny_bundle(tmp_path / "b")
    with pytest.raises(InputError, match="'onnx'"):
        build_engine(bundle, flavor="onnx", precision="fp32")
    with pytest.raises(InputError, match="'bf16'"):
        build_engine(bundle, precision="bf16")


@pytest.mark.skipif(
    find_spec("tensorrt") is not None,
    reason="tensorrt is installed; the test is about its absence",
)
def test_missing_tensorrt_names_its_package(tmp_path):
    with pytest.raises(MissingDependencyError, match="pip install tensorrt") as caught:
        build_engine(tiny_bundle(tmp_path / "b"), flavor="tensorrt", precision="fp32")
    assert "libnvinfer" in caught.value.hint


def test_float16_student_answers_like_the_float32_one(student):
    ort = pytest.importorskip("onnxruntime")
    feed = _inputs(student.manifest)
    content = student.read("student.onnx")
    exact = ort.InferenceSession(content).run(["logits", "gate"], feed)
    halved = ort.InferenceSession(float16_model(content, student.manifest.outputs)).run(
        ["logits", "gate"], feed
    )

    np.testing.assert_allclose(halved[0], exact[0], atol=FLOAT16_ATOL)
    np.testing.assert_allclose(halved[1], exact[1], atol=FLOAT16_ATOL)
    assert np.array_equal(halved[1][2:], np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32))


def test_float16_touches_convolutions_only_and_keeps_the_ports_float32(student):
    model = onnx.load_from_string(
        float16_model(student.read("student.onnx"), student.manifest.outputs)
    )
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    for node in model.graph.node:
        if node.op_type in ("Gemm", "Softmax", "ReduceMean", "Div", "Clip"):
            assert types.get(node.output[0], TensorProto.FLOAT) == TensorProto.FLOAT, node.name
        if node.op_type == "Conv":
            assert types[node.output[0]] == TensorProto.FLOAT16, node.name
    for port in (*model.graph.input, *model.graph.output):
        assert port.type.tensor_type.elem_type == TensorProto.FLOAT


def test_float16_file_is_added_to_the_bundle_and_used(student, tmp_path):
    from esccs_edge.contracts.bundle import Bundle

    source = {"student.onnx": student.read("student.onnx")}
    bundle = add_float16(Bundle.create(tmp_path / "b", student.manifest, source))
    assert bundle.read("student.fp16.onnx") == float16_model(
        source["student.onnx"], student.manifest.outputs
    )
    assert len(bundle.read("student.fp16.onnx")) < len(source["student.onnx"])


def assert_one_engine(layers):
    assert {layer["part"] for layer in layers} >= {"optical", "sar", "both"}
    written = {tensor for layer in layers for tensor in layer["outputs"]}
    assert written >= {"logits", "gate"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_record_lists_the_layers_of_an_engine_that_no_gpu_has_loaded(
    student, tmp_path, precision
):
    report = build_engine(student, precision=precision, target="portable", out=tmp_path)
    assert_one_engine(report.layers)
    branches = [layer for layer in report.layers if layer["part"] in ("optical", "sar")]
    convolutions = [layer for layer in branches if layer["kind"] == "correlation"]
    assert convolutions and all(set(layer["reads"]) == {precision} for layer in convolutions)


def test_an_engine_is_built_although_its_layers_are_not_listed(student, tmp_path, monkeypatch):
    def nothing_listed(table, modalities):
        raise BackendError("no table of layers")

    monkeypatch.setattr(to_engine, "layers_of_table", nothing_listed)
    report = build_engine(student, precision="fp32", target="portable", out=tmp_path)
    assert report.layers == () and report.path.stat().st_size == report.bytes


@rtx
@no_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_model_of_another_task_is_built_and_its_outputs_stay_float32(tmp_path, precision):
    report = build_engine(toy_bundle(tmp_path / "toy"), precision=precision, out=tmp_path)
    assert report.path.stat().st_size == report.bytes > 10_000
    assert {layer["part"] for layer in report.layers} <= {"radar", ""}
    (last,) = [layer for layer in report.layers if "class_scores" in layer["outputs"]]
    assert last["writes"] == ("fp32",)
    convolutions = [
        layer for layer in report.layers if layer["part"] and precision in layer["reads"]
    ]
    assert convolutions


def test_float16_refuses_a_quantized_model(student):
    with pytest.raises(ArtifactError, match="quantized already"):
        float16_model(student.read("student.int8.onnx"), ())


@pytest.mark.gpu
@pytest.mark.skipif(not driver_present(), reason=f"no GPU: {probe_driver().problem}")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engine_for_this_gpu_holds_both_branches_and_the_gate(student, tmp_path, precision):
    flavor = pick_flavor().name
    report = build_engine(student, flavor=flavor, precision=precision, out=tmp_path)
    assert report.target == probe_driver().gpus[0].name
    assert report.options["target"] == "current" and report.options["driver"]
    assert_one_engine(report.layers)
    layers = json.dumps(load_engine(pick_flavor(), report.path.read_bytes()).layers())
    for tensor in ("optical", "sar", "availability", "logits", "gate"):
        assert f'"{tensor}"' in layers, f"{tensor} is not in the engine"


@rtx
@no_gpu
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_student_that_answers_distances_compiles(tmp_path, precision):
    pytest.importorskip("torch", reason="exporting a student needs torch")
    from support.small_student import familiar_bundle

    report = build_engine(familiar_bundle(tmp_path / "b"), precision=precision, out=tmp_path)
    assert report.bytes > 10_000
