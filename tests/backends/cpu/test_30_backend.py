"""The OpenVINO backend: obeys the manifest it is given, strict about what it loads."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from support import tiny
from support.cpu_parts import FLOAT32_ATOL, expected, pairs_for
from support.tiny import linear_sar

from esccs_edge.backends.cpu import compiled as cpu_compiled
from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.modality import SampleSpec
from esccs_edge.contracts.values import PatchPair
from esccs_edge.errors import ArtifactError, InputError, ManifestError

#: bfloat16 keeps 8 bits; logits of the small model lie within about +-10.
BFLOAT16_ATOL = 0.1


def test_the_default_precision_stays_near(bundle):
    pairs = pairs_for(bundle.manifest, 4)
    lane = CpuBackend(bundle, bundle.manifest, max_batch=4).open_lane()
    np.testing.assert_allclose(
        lane.answer(pairs).outputs["logits"],
        expected(bundle.manifest, pairs)[0],
        atol=BFLOAT16_ATOL,
    )


def test_linear_sar_is_converted_in_the_lane(bundle):
    optical, sar = tiny.raw_pair(bundle.manifest)
    linear = np.power(10, sar / 10, dtype=np.float32)
    linear_manifest = linear_sar(bundle.manifest)
    options = {"max_batch": 1, "precision": "fp32"}
    db = CpuBackend(bundle, bundle.manifest, **options).open_lane()
    converting = CpuBackend(bundle, linear_manifest, **options).open_lane()
    first = db.answer([PatchPair(optical, sar)])
    second = converting.answer([PatchPair(optical, linear)])
    np.testing.assert_allclose(first.outputs["logits"], second.outputs["logits"], atol=FLOAT32_ATOL)
    assert second.stats["sar"][0].mean == pytest.approx(sar.mean(), abs=1e-4)


def test_the_given_manifest_decides_not_the_one_in_the_folder(bundle):
    optical, sar = tiny.raw_pair(bundle.manifest)
    shifted = replace(bundle.manifest.modalities["optical"], dn_offset=-1000.0)
    lane = CpuBackend(
        bundle, bundle.manifest.with_modality("optical", shifted), max_batch=1
    ).open_lane()
    assert lane.answer([PatchPair(optical, sar)]).stats["optical"][0].mean == pytest.approx(
        (optical.mean() - 1000) * 1e-4, rel=1e-4
    )


def test_describe_names_device_version_and_arithmetic(bundle):
    made = CpuBackend(bundle, bundle.manifest, max_batch=2, threads=1, precision="fp32")
    described = made.describe()
    assert described["backend"] == "cpu" and described["threads"] == 1
    assert described["precision"] == "fp32" and described["openvino"] and described["device"]
    made.close()
    assert made.describe()["threads"] == 0


ONE_THREAD = """
import contextlib, os, sys, threading
from esccs_edge import Bundle
from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.pixels.synthetic import random_samples

bundle = Bundle.open()
backend = CpuBackend(bundle, bundle.manifest, max_batch=32, threads=1)
lane, pairs = backend.open_lane(), random_samples(bundle.manifest, 32)
done, everywhere, bound = threading.Event(), os.sched_getaffinity(0), set()

def watch():  # OpenVINO binds its threads only while they work
    while not done.wait(1e-4):
        for thread in map(int, os.listdir("/proc/self/task")):
            with contextlib.suppress(ProcessLookupError):  # ended since it was listed
                if os.sched_getaffinity(thread) != everywhere:
                    bound.add(thread)

watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
for count in (1, 32) * 25:
    lane.answer(pairs[:count])
done.set()
watcher.join()
sys.exit(f"bound to fewer cores: threads {bound}" if bound else 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel about threads")
def test_fewer_threads_than_cores_are_not_bound():
    """Or two processes of one thread each would share the first core."""
    done = subprocess.run([sys.executable, "-c", ONE_THREAD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- refusals -----------------------------------------------------------------------------------


@pytest.fixture
def no_parser(monkeypatch):
    """OpenVINO must not see a byte of the model."""

    def parse(*args):
        raise AssertionError("the model was parsed")

    monkeypatch.setattr(cpu_compiled, "_load_model", parse)


@pytest.mark.fault(52)
def test_an_altered_model_is_refused_before_it_is_parsed(bundle, no_parser):
    path = bundle.folder / "student.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="sha256"):
        CpuBackend(bundle, bundle.manifest, max_batch=1)


@pytest.mark.fault(54)
def test_external_data_is_refused_before_it_is_parsed(bundle, no_parser):
    model = onnx.load_from_string(bundle.read("student.onnx"))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="student.onnx.data")
    altered = bundle.add({"student.onnx": model.SerializeToString()})
    with pytest.raises(ArtifactError, match="another file"):
        CpuBackend(altered, altered.manifest, max_batch=1)


def test_bytes_that_are_no_model_are_an_artifact_error(bundle):
    for content in (b"", b"\x08\x08", b"not a model at all"):
        bundle = altered = bundle.add({"student.onnx": content})
        with pytest.raises(ArtifactError):
            CpuBackend(altered, altered.manifest, max_batch=1)


def other_model(change) -> bytes:
    model = onnx.load_from_string(tiny.tiny_onnx(tiny.tiny_manifest()))
    change(model.graph)
    return model.SerializeToString()


def fixed_batch(graph) -> None:
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def renamed_input(graph) -> None:
    graph.input[0].name = "image"
    graph.node[0].input[0] = "image"


def extra_output(graph) -> None:
    extra = onnx.helper.make_tensor_value_info("total", onnx.TensorProto.FLOAT, ["N", 1])
    graph.output.append(extra)


@pytest.mark.fault(53)
@pytest.mark.parametrize("change", [fixed_batch, renamed_input, extra_output])
def test_a_model_with_other_tensors_is_refused(bundle, change):
    altered = bundle.add({"student.onnx": other_model(change)})
    with pytest.raises(ManifestError, match="expected"):
        CpuBackend(altered, altered.manifest, max_batch=1)


@pytest.mark.fault(53)
@pytest.mark.parametrize("change", [{"sample": SampleSpec(32, 32, 10.0)}, {"classes": ("A", "B")}])
def test_a_model_made_for_another_manifest_is_refused(tmp_path, change):
    content = tiny.tiny_onnx(tiny.tiny_manifest())
    manifest = tiny.tiny_manifest().evolve(**change)
    bundle = Bundle.create(tmp_path / "b", manifest, {"student.onnx": content})
    if "sample" in change:  # the small model pools, so only its declared inputs differ
        assert bundle.manifest.inputs["optical"].shape == ("N", 13, 32, 32)
    with pytest.raises(ManifestError, match="expected"):
        CpuBackend(bundle, manifest, max_batch=1)


def test_an_unknown_precision_is_refused(bundle):
    with pytest.raises(InputError, match="precision"):
        CpuBackend(bundle, bundle.manifest, max_batch=1, precision="f64")
