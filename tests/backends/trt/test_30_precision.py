"""Which graph of a bundle an engine is built from: the words of `Classifier(precision=...)`."""

from __future__ import annotations

import pytest
from support.trt_machine import Machine

from esccs_edge import Classifier
from esccs_edge.contracts.bundle_files import MODEL_FILES
from esccs_edge.errors import ArtifactError, BackendError, InputError


@pytest.fixture
def machine(monkeypatch, tmp_path):
    monkeypatch.setenv("ESCCS_CACHE_DIR", str(tmp_path / "engines"))
    return Machine(monkeypatch, tmp_path)


def classifier(machine, precision):
    return Classifier(machine.bundle, "tensorrt", 8, precision=precision)


def assert_untouched(machine):
    assert not machine.driver.log and not machine.driver.released and not machine.builds


def test_bf16_is_refused_before_the_gpu_is_touched(machine):
    with pytest.raises(BackendError, match="bf16 .*fp32, fp16 and int8 only") as caught:
        classifier(machine, "bf16")
    assert "'fp16'" in caught.value.hint
    assert_untouched(machine)


@pytest.mark.parametrize(
    "precision, file, command",
    [
        ("fp16", "student.fp16.onnx", "esccs-edge build BUNDLE --choose"),
        ("int8", "student.int8.onnx", "esccs-edge calibrate"),
    ],
)
def test_graph_that_the_bundle_lacks_is_refused_with_the_command_that_makes_it(
    machine, precision, file, command
):
    with pytest.raises(ArtifactError, match=f"no {file}") as caught:
        classifier(machine, precision)
    assert command in caught.value.hint
    assert_untouched(machine)


def test_unknown_word_is_refused(machine):
    with pytest.raises(InputError, match="'half', expected one of auto, fp32, bf16, fp16, int8"):
        classifier(machine, "half")
    assert_untouched(machine)


@pytest.mark.parametrize("precision", MODEL_FILES)
def test_graph_that_is_asked_for_is_run_and_reported(machine, precision):
    content = machine.bundle.read("student.onnx")
    machine.bundle = machine.bundle.add(dict.fromkeys(MODEL_FILES.values(), content))
    with classifier(machine, precision) as opened:
        found = opened.health().backend
    assert (found["model"], found["precision"]) == (MODEL_FILES[precision], precision)


def test_auto_runs_the_model_of_the_manifest(machine):
    content = machine.bundle.read("student.onnx")
    machine.bundle = machine.bundle.add({"student.int8.onnx": content}, model="student.int8.onnx")
    with classifier(machine, "auto") as opened:
        assert opened.health().backend["precision"] == "int8"
