"""What is asked of any CUDA binding: streams of other libraries, errors, choice, the probe."""

from __future__ import annotations

import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from support.cuda_errors import ACTIONS

from esccs_edge.cuda import driver as driver_module
from esccs_edge.cuda import probe
from esccs_edge.cuda.driver import cuda_error, grid_of, open_driver, stream_number_of
from esccs_edge.cuda.error_words import query_words
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


@pytest.mark.parametrize("number, action", ACTIONS.items())
def test_cuda_error_carries_nvidias_words_and_what_may_help(number, action):
    error = cuda_error("cuMemAlloc", number, "CUDA_ERROR_X", "said NVIDIA")
    assert error.action == action
    assert "cuMemAlloc failed: CUDA_ERROR_X" in str(error) and "said NVIDIA" in str(error)


def test_a_gpu_that_another_process_holds_is_no_reason_to_restart():
    assert "nvidia-smi -c DEFAULT" in cuda_error("cuX", 46, "DEVICE_UNAVAILABLE", "busy").hint


def test_errors_that_cuda_h_calls_inconsistent_are_sticky():
    """Where a toolkit is installed: what its header says of each number."""
    header = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include" / "cuda.h"
    if not header.is_file():
        pytest.skip("no cuda.h here")
    said, checked = "", 0
    for line in header.read_text(errors="replace").split("CUDA_SUCCESS ", 1)[1].splitlines():
        if found := re.match(r"\s*CUDA_ERROR_\w+\s*=\s*(\d+)", line):
            if "inconsistent state" in said:
                assert cuda_error("x", int(found[1]), "", "").action == "restart", line
                checked += 1
            said = ""
        said += line
        if line.startswith("} CUresult"):
            break
    assert checked > 8


def test_words_of_an_error_become_its_number():
    words = {2: b"out of memory", 700: b"an illegal memory access was encountered", 999: b"unknown"}

    class Library:
        def cuGetErrorString(self, number, out):
            out._obj.value = words.get(number)
            return 0 if number in words else 1

    found = query_words(Library())
    assert found == {text.decode(): number for number, text in words.items()}


def test_child_of_a_process_that_probed_is_told_to_spawn(monkeypatch, one_gpu):
    monkeypatch.setattr(probe, "_probed_in", [os.getpid()])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            open_driver()
            said = "no error"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(reader, 1000).decode()
    os.close(reader), os.close(writer)
    assert said.startswith("ForkedProcessError") and "Start workers with spawn" in said


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


@pytest.mark.parametrize(
    "error", [OSError("no such file"), UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "bad byte")]
)
def test_a_library_that_does_not_load_is_no_driver_whatever_the_locale(monkeypatch, error):
    """A program that set a locale of its own gets the reason in bytes that are no UTF-8."""

    def refuse(name):
        raise error

    monkeypatch.setattr(probe.ctypes, "CDLL", refuse)
    assert probe.driver_library.__wrapped__() is None
