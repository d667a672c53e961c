"""`auto` picks TensorRT only where all of it is there, and says no to unknown names."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any

import pytest
from support.fake import FakeBackend

from esccs_edge import Classifier
from esccs_edge.backends import choice as backend_choice
from esccs_edge.backends import device_choice
from esccs_edge.backends.choice import open_backend, tensorrt_is_usable
from esccs_edge.cuda.probe import DriverInfo, GpuInfo
from esccs_edge.errors import InputError, MissingDependencyError

OPTIONS: dict[str, Any] = {"max_batch": 2, "threads": None}


@pytest.fixture
def host(monkeypatch, tmp_path):
    """Pretend what is installed; returns a function that sets it."""

    def pretend(*, gpu: bool, modules: set[str], kernels: bool = True) -> None:
        fatbin = tmp_path / "preprocess.fatbin"
        if kernels:
            fatbin.touch()
        monkeypatch.setattr(backend_choice, "fatbin_path", lambda: fatbin)
        monkeypatch.setattr(backend_choice, "driver_present", lambda: gpu)
        monkeypatch.setattr(backend_choice, "_is_installed", lambda name: name in modules)

    return pretend


@pytest.fixture
def tensorrt_backend(monkeypatch):
    """A stand-in for the TensorRT backend that records how it was made."""
    module: Any = ModuleType("esccs_edge.backends.trt.backend")
    made = []

    def factory(*args, **kwargs):
        made.append((args, kwargs))
        return FakeBackend()

    module.TrtBackend = factory
    monkeypatch.setitem(sys.modules, "esccs_edge.backends.trt.backend", module)
    monkeypatch.delitem(sys.modules, "esccs_edge.backends.trt.several", raising=False)
    yield made
    sys.modules.pop("esccs_edge.backends.trt.several", None)


@pytest.mark.parametrize(
    ("gpu", "modules", "usable"),
    [
        (True, {"tensorrt", "cuda.bindings"}, True),
        (True, {"tensorrt_rtx", "pycuda"}, True),
        (False, {"tensorrt", "cuda.bindings"}, False),
        (True, {"cuda.bindings"}, False),
        (True, {"tensorrt"}, False),
        (True, set(), False),
    ],
)
def test_tensorrt_is_usable_only_with_gpu_library_and_binding(host, gpu, modules, usable):
    host(gpu=gpu, modules=modules)
    assert tensorrt_is_usable() is usable


def test_auto_takes_the_cpu_where_the_package_was_built_without_kernels(
    bundle, host, tensorrt_backend
):
    host(gpu=True, modules={"tensorrt", "cuda.bindings"}, kernels=False)
    assert open_backend("auto", bundle, bundle.manifest, **OPTIONS).name == "cpu"
    assert not tensorrt_backend


def test_auto_takes_the_cpu_without_a_gpu(bundle, host, tensorrt_backend):
    host(gpu=False, modules={"tensorrt", "cuda.bindings"})
    made = open_backend("auto", bundle, bundle.manifest, **OPTIONS)
    assert made.name == "cpu" and not tensorrt_backend


def test_auto_takes_tensorrt_where_it_is_usable(bundle, host, tensorrt_backend):
    host(gpu=True, modules={"tensorrt", "cuda.bindings"})
    assert open_backend("auto", bundle, bundle.manifest, **OPTIONS).name == "fake"
    ((arguments, options),) = tensorrt_backend
    assert arguments == (bundle, bundle.manifest)
    assert options == {"max_batch": 2, "precision": "auto", "ordinal": 0, "flavor": None}


def test_a_failure_of_the_picked_backend_is_not_answered_by_another(bundle, host, monkeypatch):
    host(gpu=True, modules={"tensorrt", "cuda.bindings"})
    module: Any = ModuleType("esccs_edge.backends.trt.backend")

    def broken(*args, **kwargs):
        raise MissingDependencyError("no kernels for this GPU")

    module.TrtBackend = broken
    monkeypatch.setitem(sys.modules, "esccs_edge.backends.trt.backend", module)
    monkeypatch.delitem(sys.modules, "esccs_edge.backends.trt.several", raising=False)
    with pytest.raises(MissingDependencyError, match="no kernels"):
        open_backend("auto", bundle, bundle.manifest, **OPTIONS)


H100 = GpuInfo("NVIDIA H100", (9, 0), False, 80 << 30)
ADA = GpuInfo("NVIDIA RTX 4000", (8, 9), False, 20 << 30)


@pytest.mark.parametrize(
    "gpus, environment, modules, usable",
    [
        ([H100], {}, {"tensorrt_rtx", "cuda.bindings"}, False),
        ([ADA], {}, {"tensorrt_rtx", "cuda.bindings"}, True),
        ([H100], {}, {"tensorrt_rtx", "tensorrt", "cuda.bindings"}, True),
        ([H100], {"ESCCS_FLAVOR": "rtx"}, {"tensorrt_rtx", "tensorrt", "cuda.bindings"}, False),
        ([ADA], {"ESCCS_FLAVOR": "tensorrt"}, {"tensorrt_rtx", "cuda.bindings"}, False),
        ([ADA, H100], {}, {"tensorrt_rtx", "cuda.bindings"}, True),
        ([ADA, H100], {"ESCCS_DEVICE": "1"}, {"tensorrt_rtx", "cuda.bindings"}, False),
        ([ADA, H100], {"ESCCS_DEVICE": "all"}, {"tensorrt_rtx", "cuda.bindings"}, False),
    ],
)
def test_auto_takes_the_cpu_and_says_why_where_rtx_has_no_target(
    bundle, host, tensorrt_backend, monkeypatch, caplog, gpus, environment, modules, usable
):
    host(gpu=True, modules=modules)
    for module in (backend_choice, device_choice):
        monkeypatch.setattr(module, "probe_driver", lambda: DriverInfo("13.0", tuple(gpus), ""))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING, "esccs_edge.backends"):
        made = open_backend("auto", bundle, bundle.manifest, **OPTIONS)
    assert (made.name == "fake") is usable
    if not usable:
        wanted = "NVIDIA H100" if H100 in gpus else "no TensorRT is installed"
        assert wanted in made.why and made.why in caplog.text


@pytest.mark.fault(83)
def test_asking_for_a_gpu_is_not_answered_by_the_cpu(bundle, host, tensorrt_backend):
    host(gpu=False, modules=set())
    assert open_backend("auto", bundle, bundle.manifest, **OPTIONS, device=1).name == "fake"
    assert open_backend("auto", bundle, bundle.manifest, **OPTIONS, flavor="rtx").name == "fake"
    found = [(options["ordinal"], options["flavor"]) for _, options in tensorrt_backend]
    assert found == [(1, None), (0, "rtx")]
    for asked in ({"device": 0}, {"flavor": "rtx"}):
        with pytest.raises(InputError, match="'cpu' with .* for GPUs"):
            open_backend("cpu", bundle, bundle.manifest, **OPTIONS, **asked)


def test_health_says_why_the_cpu_was_taken(bundle, host):
    host(gpu=True, modules={"tensorrt"})
    with Classifier(bundle, max_batch=2) as classifier:
        assert "cuda-python nor pycuda" in classifier.health().backend["why"]
    with Classifier(bundle, "cpu", max_batch=2) as classifier:
        assert "why" not in classifier.health().backend


def test_the_cpu_can_be_asked_for_where_tensorrt_is_usable(bundle, host, tensorrt_backend):
    host(gpu=True, modules={"tensorrt", "cuda.bindings"})
    assert open_backend("cpu", bundle, bundle.manifest, **OPTIONS).name == "cpu"


@pytest.mark.fault(83)
def test_a_missing_openvino_names_the_command_that_installs_it(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    for module in [name for name in sys.modules if name.startswith("esccs_edge.backends.cpu.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingDependencyError, match="pip install openvino"):
        open_backend("cpu", bundle, bundle.manifest, **OPTIONS)


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "openvino"])
def test_an_unknown_backend_is_refused(bundle, name):
    with pytest.raises(InputError, match="auto, cpu, tensorrt"):
        open_backend(name, bundle, bundle.manifest, **OPTIONS)


def test_a_broken_parent_package_counts_as_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "brokenparent", None)
    assert not backend_choice._is_installed("brokenparent.bindings")
    assert backend_choice._is_installed("json.decoder")
