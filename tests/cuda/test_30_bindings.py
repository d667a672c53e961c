"""The two CUDA providers against the modules they wrap, and over a driver library that is ours."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import fake_libcuda
from support.cuda_errors import ACTIONS
from support.fake_gpu import FakeDriver
from support.host_compiler import ROOT

from esccs_edge.backends.trt import pixel_kernels as gpu
from esccs_edge.cuda.driver import Arguments, Driver, LaunchShape
from esccs_edge.errors import CudaError, InputError


def test_cuda_python_has_every_name_we_call():
    pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-python")
    from cuda.bindings import driver as cu

    from esccs_edge.cuda import cuda_python_driver

    tree = ast.parse(Path(cuda_python_driver.__file__).read_text())
    chains = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    used = {chain for chain in chains if chain.startswith("cu.")}
    assert len(used) > 35
    for chain in used:
        found = cu
        for part in chain.split(".")[1:]:
            assert hasattr(found, part), f"cuda.bindings.driver has no {chain[3:]}"
            found = getattr(found, part)


def test_cuda_python_calls_have_the_right_number_of_arguments():
    """The first line of each docstring is the signature that Cython compiled."""
    pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-python")
    from cuda.bindings import driver as cu

    from esccs_edge.cuda import cuda_python_driver

    tree = ast.parse(Path(cuda_python_driver.__file__).read_text())
    checked = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).startswith("cu.cu"):
            continue
        name = ast.unparse(node.func)[3:]
        signature = getattr(cu, name).__doc__.strip().splitlines()[0]
        inside = signature[signature.index("(") + 1 : signature.rindex(")")]
        expected = len([part for part in inside.split(",") if part.strip()])
        assert len(node.args) == expected, f"{name}: {signature}"
        checked += 1
    assert checked > 30


def test_drivers_cover_the_protocol():
    pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-python")
    from esccs_edge.cuda.cuda_python_driver import CudaPythonDriver

    calls = {n: f for n, f in vars(Driver).items() if inspect.isfunction(f) and n[0] != "_"}
    assert len(calls) > 30
    for kind in (CudaPythonDriver, pycuda_driver().PycudaDriver, FakeDriver):
        for name, call in calls.items():
            ours = list(inspect.signature(getattr(kind, name)).parameters)
            assert ours == list(inspect.signature(call).parameters), f"{kind.__name__}.{name}"


def test_cuda_python_turns_a_status_into_our_error():
    cu = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-python")
    from esccs_edge.cuda.cuda_python_driver import check

    assert check("x", (cu.CUresult.CUDA_SUCCESS,)) is None
    assert check("x", (cu.CUresult.CUDA_SUCCESS, 5)) == 5
    assert check("x", (cu.CUresult.CUDA_SUCCESS, 5, 6)) == (5, 6)


def test_cuda_python_asks_nvidia_for_the_words(monkeypatch):
    cu = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-python")
    from esccs_edge.cuda import cuda_python_driver

    ok = cu.CUresult.CUDA_SUCCESS
    words = types.SimpleNamespace(
        CUresult=cu.CUresult,
        cuGetErrorName=lambda status: (ok, b"CUDA_ERROR_OUT_OF_MEMORY"),
        cuGetErrorString=lambda status: (ok, b"out of memory"),
    )
    monkeypatch.setattr(cuda_python_driver, "cu", words)
    with pytest.raises(CudaError, match=r"OUT_OF_MEMORY \(2\), out of memory") as caught:
        cuda_python_driver.check("cuMemAlloc", (cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY,))
    assert caught.value.action == "smaller-batch"


@pytest.mark.parametrize("timing", [True, False])
@pytest.mark.parametrize("blocking", [True, False])
def test_flags_of_an_event_are_those_of_cuda_h(monkeypatch, timing, blocking):
    """CU_EVENT_BLOCKING_SYNC is 1 and CU_EVENT_DISABLE_TIMING 2, with either provider."""
    wanted = blocking * 1 + (not timing) * 2
    module, driver = bare_pycuda()
    monkeypatch.setattr(module.pycuda, "Event", lambda flags: flags, raising=False)
    assert driver.create_event(timing, blocking) == wanted
    cu = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-python")
    from esccs_edge.cuda.cuda_python_driver import CudaPythonDriver

    monkeypatch.setattr(cu, "cuEventCreate", lambda flags: (cu.CUresult.CUDA_SUCCESS, flags))
    driver = CudaPythonDriver.__new__(CudaPythonDriver)
    assert driver.create_event(timing, blocking) == wanted


class PycudaErrors(Exception):
    """Base of pycuda's exceptions."""


def pycuda_driver():
    """Our module over a recorded surface of pycuda 2026.1 (names and arguments)."""
    fake: Any = types.ModuleType("pycuda.driver")
    fake.Error = PycudaErrors
    fake.MemoryError = type("MemoryError", (PycudaErrors,), {})
    fake.LaunchError = type("LaunchError", (PycudaErrors,), {})
    fake.Stream = type("Stream", (), {"handle": 7, "__init__": lambda self, flags=0: None})
    fake.device_attribute = types.SimpleNamespace(
        INTEGRATED=1, COMPUTE_CAPABILITY_MAJOR=2, COMPUTE_CAPABILITY_MINOR=3
    )
    fake.event_flags = types.SimpleNamespace(BLOCKING_SYNC=1, DISABLE_TIMING=2)
    fake.host_alloc_flags = types.SimpleNamespace(DEVICEMAP=2)
    package: Any = types.ModuleType("pycuda")
    package.driver = fake
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pycuda", package)
        patch.setitem(sys.modules, "pycuda.driver", fake)
        patch.delitem(sys.modules, "esccs_edge.cuda.pycuda_driver", raising=False)
        module = importlib.import_module("esccs_edge.cuda.pycuda_driver")
        patch.delitem(sys.modules, "esccs_edge.cuda.pycuda_driver")
        return module


def bare_pycuda():
    module = pycuda_driver()
    return module, module.PycudaDriver.__new__(module.PycudaDriver)


def test_pycuda_is_never_asked_for_its_autoinit_context():
    source = (ROOT / "esccs_edge" / "cuda" / "pycuda_driver.py").read_text()
    assert "import pycuda.autoinit" not in source and "make_context" not in source
    assert "retain_primary_context" in source


def test_pycuda_refuses_graphs_and_names_the_other_provider():
    _, driver = bare_pycuda()
    assert not driver.has_graphs
    for call in (driver.begin_capture, driver.end_capture, driver.destroy_graph):
        with pytest.raises(CudaError, match="ESCCS_CUDA=cuda-python"):
            call(None)


def test_pycuda_takes_its_own_streams_only():
    module, driver = bare_pycuda()
    stream = module.pycuda.Stream()
    assert driver.adopt_stream(stream) is stream
    with pytest.raises(InputError, match="ESCCS_CUDA=cuda-python"):
        driver.adopt_stream(types.SimpleNamespace(cuda_stream=5))


@pytest.mark.parametrize("number, action", ACTIONS.items())
@pytest.mark.parametrize("remark", ["", " - are the drivers installed?"])
def test_pycudas_errors_become_ours_by_the_words_of_the_driver(monkeypatch, number, action, remark):
    """Its exceptions say no number, and their kinds hold lost and unharmed GPUs alike."""
    module, _ = bare_pycuda()
    words = {f"words of {known}": known for known in ACTIONS}
    monkeypatch.setattr(module, "number_of_words", words.get)
    with pytest.raises(CudaError, match="cuX failed") as caught, module.checked("cuX"):
        raise module.pycuda.LaunchError(f"cuX failed: words of {number}{remark}")
    assert caught.value.action == action and f"({number})" in str(caught.value)


def test_words_of_pycuda_that_no_driver_knows_are_judged_by_their_kind():
    module, _ = bare_pycuda()
    for kind, action in (("MemoryError", "smaller-batch"), ("LaunchError", "restart")):
        with pytest.raises(CudaError, match="cuX failed") as caught, module.checked("cuX"):
            raise getattr(module.pycuda, kind)("driver words")
        assert caught.value.action == action and "driver words" in str(caught.value)


@pytest.mark.parametrize("number, action", ACTIONS.items())
def test_cuda_pythons_errors_become_ours_by_number(number, action):
    cu = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-python")
    from esccs_edge.cuda import cuda_python_driver

    words = types.SimpleNamespace(
        cuGetErrorName=lambda status: (cu.CUresult.CUDA_SUCCESS, status.name.encode()),
        cuGetErrorString=lambda status: (cu.CUresult.CUDA_SUCCESS, b"words"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_python_driver, "cu", words)
        with pytest.raises(CudaError, match=rf"\({number}\), words") as caught:
            cuda_python_driver.check("cuX", (cu.CUresult(number),))
    assert caught.value.action == action


def test_pycuda_passes_a_struct_as_its_bytes():
    _, driver = bare_pycuda()
    seen = {}

    class Function:
        def prepare(self, types_):
            seen["types"] = types_

        def prepared_async_call(self, grid, block, stream, content, shared_size):
            seen.update(grid=grid, block=block, content=content, shared=shared_size)

    values = np.zeros((), gpu.PARAMS)
    values["modalities"] = 2
    driver.launch(Function(), LaunchShape((8, 64), 128, 1024), None, Arguments(values))
    assert seen == {
        "types": ["3368s"],
        "grid": (8, 64),
        "block": (128, 1, 1),
        "content": values.tobytes(),
        "shared": 1024,
    }


OVER_FAKE_LIBCUDA = """
import os, sys
sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)  # pycuda links calls that the fake lacks
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
import pytest
from support import fake_trt
from support.tiny import tiny_bundle
from support.trt_machine import assert_same, awkward_batch, cpu_answer
from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.cuda.device import Device
from esccs_edge.system.sealed_cache import SealedCache
from esccs_edge.errors import CudaError
from esccs_edge.backends.trt.library import LoadedEngine, error_log

device = Device.open()
assert device.driver.name == os.environ["ESCCS_CUDA"]
with device.active():
    assert (device.name, device.compute_capability, device.integrated) == ("Fake GPU", "8.9", False)
    assert device.free_bytes() == 1 << 33
    start, end, stream = device.event(timing=True), device.event(timing=True), device.stream()
    start.record(stream), end.record(stream), end.synchronize()
    assert end.milliseconds_since(start) == 1.5
    borrowed = device.adopt(stream.handle)
    assert borrowed.number == stream.number
    if device.driver.has_graphs:
        stream.capture(lambda: start.record(stream)).launch(borrowed)
    assert device.pinned(64, mapped=True).address > 0
    with pytest.raises(CudaError, match="2.*as the fake driver says") as caught:
        device.memory(1 << 50)
    assert caught.value.action == "smaller-batch"
borrowed.close()
device.close()  # the fake driver refuses while anything is still allocated

class AtOnce:
    def enqueue_on(self, number, work):
        work()

folder = Path(sys.argv[2])
bundle = tiny_bundle(folder / "bundle")
flavor = fake_trt.fake_flavor(AtOnce(), bundle.manifest)
engine = LoadedEngine(flavor, flavor.trt.engine, error_log(flavor), None)
trt_backend.pick_flavor = lambda: flavor
trt_backend.EngineBuilder.load_or_build = lambda self, cache: engine
backend = trt_backend.TrtBackend(
    bundle, bundle.manifest, max_batch=8, graph_batches=(), cache=SealedCache(folder / "engines")
)
lane = backend.open_lane()
for count in (1, 5, 8):
    pairs = awkward_batch(bundle.manifest, count)
    lane.start(pairs)
    assert_same(lane.finish(), cpu_answer(folder / "bundle", pairs))
print(backend.describe()["device"])
backend.close()
"""


@pytest.mark.parametrize("provider", fake_libcuda.PACKAGES)
def test_real_binding_runs_a_lane_over_a_fake_libcuda(tmp_path, provider):
    """Every argument goes through the real binding; only the driver below it is ours."""
    done = subprocess.run(
        [sys.executable, "-c", OVER_FAKE_LIBCUDA, ROOT / "tests", tmp_path],
        env=fake_libcuda.environment(tmp_path, provider),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Fake GPU"
    assert "WARNING" not in done.stderr  # pycuda only warns when something was freed too late
