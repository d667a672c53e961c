"""`auto` picks TensorRT only where all of it is there, and says no to unknown names."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from support.fake import FakeBackend

from esccs_edge.backends import choice as backend_choice
from esccs_edge.backends.choice import open_backend, tensorrt_is_usable
from esccs_edge.errors import InputError, MissingDependencyError

OPTIONS = {"max_batch": 2, "threads": None}


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
    return made


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
    assert tensorrt_backend == [((bundle, bundle.manifest), {"max_batch": 2, "precision": "auto"})]


def test_a_failure_of_the_picked_backend_is_not_answered_by_another(bundle, host, monkeypatch):
    host(gpu=True, modules={"tensorrt", "cuda.bindings"})
    module: Any = ModuleType("esccs_edge.backends.trt.backend")

    def broken(*args, **kwargs):
        raise MissingDependencyError("no kernels for this GPU")

    module.TrtBackend = broken
    monkeypatch.setitem(sys.modules, "esccs_edge.backends.trt.backend", module)
    with pytest.raises(MissingDependencyError, match="no kernels"):
        open_backend("auto", bundle, bundle.manifest, **OPTIONS)


def test_the_cpu_can_be_asked_for_where_tensorrt_is_usable(bundle, host, tensorrt_backend):
    host(gpu=True, modules={"tensorrt", "cuda.bindings"})
    assert open_backend("cpu", bundle, bundle.manifest, **OPTIONS).name == "cpu"


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
