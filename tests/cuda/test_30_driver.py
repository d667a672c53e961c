"""What is asked of any CUDA binding: streams of other libraries, errors, choice, the probe."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from esccs_edge.cuda import driver as driver_module
from esccs_edge.cuda.driver import cuda_error, grid_of, open_driver, stream_number_of
from esccs_edge.cuda.probe import DriverInfo, GpuInfo, probe_driver, query_driver
from esccs_edge.errors import BackendError, InputError, MissingDependencyError


@pytest.mark.parametrize(
    "stream",
    [
        types.SimpleNamespace(__cuda_stream__=lambda: (0, 42)),
        types.SimpleNamespace(__cuda_stream__=(0, 42)),
        types.SimpleNamespace(cuda_stream=42),
        types.SimpleNamespace(handle=42),
        types.SimpleNamespace(ptr=42),
        42,
    ],
)
def test_streams_of_every_library_are_understood(stream):
    assert stream_number_of(stream) == 42


@pytest.mark.parametrize("stream", [None, "stream", True, types.SimpleNamespace()])
def test_what_is_no_stream_is_refused(stream):
    with pytest.raises(InputError, match="not a CUDA stream"):
        stream_number_of(stream)


def test_newer_stream_protocol_is_refused():
    with pytest.raises(InputError, match="version 1"):
        stream_number_of(types.SimpleNamespace(__cuda_stream__=lambda: (1, 42)))


def test_launch_grid_is_checked():
    assert grid_of((8, 64)) == (8, 64)
    for bad in ((0, 1), (1, 0), (1, 65536), (2**31, 1)):
        with pytest.raises(InputError, match="launch grid"):
            grid_of(bad)


@pytest.mark.parametrize("number, action", [(700, "restart"), (2, "smaller-batch"), (1, "")])
def test_cuda_error_carries_nvidias_words_and_what_may_help(number, action):
    error = cuda_error("cuMemAlloc", number, "CUDA_ERROR_X", "said NVIDIA")
    assert error.action == action
    assert "cuMemAlloc failed: CUDA_ERROR_X" in str(error) and "said NVIDIA" in str(error)


def test_unknown_provider_is_refused(monkeypatch):
    monkeypatch.setenv("ESCCS_CUDA", "opencl")
    with pytest.raises(InputError, match="'opencl', expected one of cuda-python, pycuda"):
        open_driver()


@pytest.fixture
def one_gpu(monkeypatch):
    gpus = (GpuInfo("Orin", (8, 7), True, 1),)
    monkeypatch.setattr(driver_module, "probe_driver", lambda: DriverInfo("12.6", gpus, ""))


def test_no_provider_names_the_package_that_fits_the_driver(monkeypatch, one_gpu):
    monkeypatch.delenv("ESCCS_CUDA", raising=False)
    broken = {"cuda-python": "absent_one", "pycuda": "absent_two"}
    monkeypatch.setattr(driver_module, "PROVIDERS", broken)
    with pytest.raises(MissingDependencyError, match=r"cuda-python==12\.\*"):
        open_driver()


def test_first_provider_that_loads_is_taken_unless_one_is_named(monkeypatch, one_gpu):
    opened = []
    for name in ("first", "second"):
        module: Any = types.ModuleType(f"esccs_edge.cuda.{name}")
        module.open_device = lambda ordinal, name=name: opened.append(name) or name
        monkeypatch.setitem(sys.modules, module.__name__, module)
    providers = {"absent": "absent_one", "a": "first", "b": "second"}
    monkeypatch.setattr(driver_module, "PROVIDERS", providers)
    monkeypatch.delenv("ESCCS_CUDA", raising=False)
    assert open_driver() == "first"
    monkeypatch.setenv("ESCCS_CUDA", "b")
    assert open_driver() == "second"
    with pytest.raises(BackendError, match="GPU 3 was asked for"):
        open_driver(3)


@pytest.mark.skipif(not probe_driver().problem, reason="this host has a GPU")
def test_open_driver_without_a_driver_says_so():
    with pytest.raises(BackendError, match="no GPU can be used: no CUDA driver"):
        open_driver()


class Library:
    """libcuda's calls as ctypes sees them."""

    def __init__(self, init=0, gpus=2):
        self.init, self.gpus = init, gpus

    def cuInit(self, flags):
        return self.init

    def cuDriverGetVersion(self, out):
        out._obj.value = 12060
        return 0

    def cuDeviceGetCount(self, out):
        out._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, out, ordinal):
        out._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, out, size, device):
        out.value = b"Orin"
        return 0

    def cuDeviceTotalMem_v2(self, out, device):
        out._obj.value = 64 << 30
        return 0

    def cuDeviceGetAttribute(self, out, attribute, device):
        out._obj.value = {18: 1, 75: 8, 76: 7}[attribute]
        return 0


def test_probe_reads_devices_without_a_binding():
    found = query_driver(Library())
    assert found == DriverInfo("12.6", (GpuInfo("Orin", (8, 7), True, 64 << 30),) * 2, "")
    assert found.gpus[0].sm == "8.7"


def test_probe_reports_why_there_is_no_gpu():
    assert "error 999" in query_driver(Library(init=999)).problem
    assert "shows no GPU" in query_driver(Library(gpus=0)).problem
