"""Which graph runs in which number format, on CPUs on which INT8 gains and on others."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from support import tiny

from esccs_edge import Bundle, Classifier
from esccs_edge.backends.cpu import arithmetic
from esccs_edge.backends.cpu.arithmetic import choose_arithmetic
from esccs_edge.contracts.manifest import FileRecord
from esccs_edge.errors import ArtifactError, BackendError, InputError
from esccs_edge.pixels.synthetic import smooth_samples
from esccs_edge.system.cpu_features import gains_by_int8

RECORD = FileRecord("0" * 64, 1)
FLOAT = tiny.tiny_manifest(files={"student.onnx": RECORD})
INT8 = tiny.tiny_manifest(
    files={"student.onnx": RECORD, "student.int8.onnx": RECORD},
    model="student.int8.onnx",
    quantization={"scheme": "int8"},
)
INT8_ALONE = INT8.evolve(files={"student.int8.onnx": RECORD})


@pytest.fixture(params=["dot products", "plain AVX2", "ARM"])
def gains(request, monkeypatch):
    """Whether INT8 gains on this kind of CPU."""
    gains = request.param == "dot products"
    monkeypatch.setattr(arithmetic, "gains_by_int8", lambda: gains)
    monkeypatch.setattr(arithmetic, "has_int8_dot_products", lambda: request.param != "plain AVX2")
    return gains


def test_a_quantized_bundle_runs_int8_only_where_that_gains(gains, request):
    found = choose_arithmetic(INT8, "auto")
    assert found.model == ("student.int8.onnx" if gains else "student.onnx")
    assert found.is_int8 == gains and found.hint == "f32"
    kind = request.node.callspec.params["gains"]
    assert ("ARM" if kind == "ARM" else "INT8 dot products") in found.reason


def test_without_a_float_graph_int8_runs_anywhere_and_says_why(gains):
    found = choose_arithmetic(INT8_ALONE, "auto")
    assert found.model == "student.int8.onnx" and found.is_int8
    assert gains or "no float graph" in found.reason


@pytest.mark.parametrize("bf16", [True, False])
def test_a_float_bundle_leaves_openvino_the_choice_where_the_cpu_has_bfloat16(monkeypatch, bf16):
    monkeypatch.setattr(arithmetic, "has_bf16", lambda: bf16)
    found = choose_arithmetic(FLOAT, "auto")
    assert (found.model, found.is_int8) == ("student.onnx", False)
    assert found.hint == (None if bf16 else "f32")


@pytest.mark.parametrize("manifest", [FLOAT, INT8], ids=["float", "int8"])
def test_a_precision_that_is_asked_for_is_taken(gains, manifest):
    found = choose_arithmetic(manifest, "fp32")
    assert (found.model, found.hint, found.precision("f32")) == ("student.onnx", "f32", "fp32")


def test_a_float_model_stays_float_although_the_bundle_holds_an_int8_graph_too(gains):
    kept = INT8.evolve(model="student.onnx")
    assert choose_arithmetic(kept, "auto").precision("f32") == "fp32"
    assert choose_arithmetic(kept, "int8").model == "student.int8.onnx"


def test_int8_that_is_asked_for_is_taken(gains):
    found = choose_arithmetic(INT8, "int8")
    assert (found.model, found.precision("f32")) == ("student.int8.onnx", "int8")


def test_a_graph_that_the_bundle_lacks_is_refused():
    with pytest.raises(ArtifactError, match="no student.int8.onnx.*calibrate"):
        choose_arithmetic(FLOAT, "int8")
    with pytest.raises(ArtifactError, match="no student.onnx"):
        choose_arithmetic(INT8_ALONE, "fp32")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_number_format_that_the_cpu_lacks_is_refused(monkeypatch, precision):
    monkeypatch.setitem(arithmetic._IS_NATIVE, precision, lambda: False)
    with pytest.raises(BackendError, match=f"precision {precision} .* this CPU"):
        choose_arithmetic(FLOAT, precision)
    monkeypatch.setitem(arithmetic._IS_NATIVE, precision, lambda: True)
    assert choose_arithmetic(FLOAT, precision).precision(None) is None


def test_an_unknown_word_is_refused():
    with pytest.raises(InputError, match="'half', expected one of auto, fp32, bf16, fp16, int8"):
        choose_arithmetic(FLOAT, "half")


PROGRAM = """
import json, sys
import numpy as np
from esccs_edge import Classifier
from esccs_edge.pixels.synthetic import smooth_samples

with Classifier("default", "cpu", precision=sys.argv[1]) as classifier:
    samples = smooth_samples(classifier.manifest, 24)
    answers = classifier.classify_batch(*zip(*(s.pixels.values() for s in samples)))
    backend = classifier.health().backend
probabilities = [list(answer.probabilities.values()) for answer in answers]
print(json.dumps([backend["precision"], backend["precision_reason"], probabilities]))
"""


def answers_under(limit: str, precision: str = "auto"):
    """Ask the shipped model in a process whose OpenVINO uses no newer instructions than these."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, precision],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found, reason, probabilities = json.loads(done.stdout)
    return found, reason, np.array(probabilities)


def test_the_shipped_model_is_exact_on_a_cpu_with_avx2_only():
    found, reason, probabilities = answers_under("AVX2")
    assert found == "fp32" and "INT8" in reason
    _, _, exact = answers_under("ALL", "fp32")
    np.testing.assert_allclose(probabilities, exact, atol=1e-4)


@pytest.mark.skipif(not gains_by_int8(), reason="INT8 gains nothing on this CPU")
def test_the_shipped_model_runs_int8_where_the_cpu_has_dot_products():
    found, reason, probabilities = answers_under("ALL")
    assert found == "int8" and "INT8 dot products" in reason
    _, _, exact = answers_under("ALL", "fp32")
    assert (probabilities.argmax(axis=1) == exact.argmax(axis=1)).mean() >= 0.9


def test_a_float_bundle_answers_where_a_modality_is_missing(tmp_path):
    """On any CPU: in float16, which OpenVINO would take on ARM, NaN is answered."""
    bundle = Bundle.open().copy(tmp_path / "float")
    bundle = bundle.add({}, without=["student.int8.onnx"], model="student.onnx", quantization=None)
    pixels = smooth_samples(bundle.manifest, 1)[0].pixels
    with Classifier(bundle.folder, "cpu") as classifier:
        for name in pixels:
            answer = classifier.classify(*(pixels[n] if n == name else None for n in pixels))
            assert np.isfinite(list(answer.probabilities.values())).all()


def test_the_front_door_passes_the_precision_on():
    with Classifier("default", "cpu", precision="fp32") as classifier:
        backend = classifier.health().backend
    assert backend["precision"] == "fp32" and backend["model"] == "student.onnx"
    assert Bundle.open().manifest.quantization is not None
