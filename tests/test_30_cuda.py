"""CUDA without a GPU: owners over a counting fake, providers against the real modules' surface,
the kernels' arithmetic on the CPU. `gpu` tests at the end need the device.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import oracle
import pytest
from fake_gpu import ROOT, FakeDriver, host_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_manifest

from esccs_edge import preprocess_gpu as gpu
from esccs_edge.cuda import driver as driver_module
from esccs_edge.cuda.driver import cuda_error, grid_of, open_driver, stream_number_of
from esccs_edge.cuda.owners import Device
from esccs_edge.cuda.probe import DriverInfo, GpuInfo, probe_driver, query_driver
from esccs_edge.errors import (
    BackendError,
    ClosedError,
    CudaError,
    InputError,
    MissingDependencyError,
)
from esccs_edge.preprocess import preprocess

#: One float32 rounding in `physical`, one in each step of `normalize`, against float64.
ORACLE_ATOL = 2e-5
MEAN_RTOL = 1e-5
MAKERS = {
    "stream": lambda d: d.stream(),
    "event": lambda d: d.event(),
    "memory": lambda d: d.memory(64),
    "pinned": lambda d: d.pinned(64),
    "module": lambda d: d.module(b"fake"),
}
HAS_GPU = not probe_driver().problem


@pytest.fixture
def device():
    return Device(FakeDriver())


# Owners


@pytest.mark.parametrize("name", MAKERS)
def test_owner_frees_exactly_once(device, name):
    with device.active():
        made = MAKERS[name](device)
    assert len(device.driver.live) == 1
    made.close()
    made.close()
    assert made.closed and not device.driver.live
    with pytest.raises(ClosedError, match=type(made).__name__), device.active():
        _ = made.handle
    device.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(MAKERS)), max_size=12), st.randoms(use_true_random=False))
def test_device_closes_what_is_left_in_reverse_order_of_making(names, chooser):
    device = Device(FakeDriver())
    with device.active():
        made = [MAKERS[name](device) for name in names]
    gone = [owner for owner in made if chooser.random() < 0.4]
    for owner in gone:
        owner.close()
    freed = []
    for owner in made:
        free = owner._free
        owner._free = lambda handle, owner=owner, free=free: (freed.append(owner), free(handle))
    device.close()
    device.close()
    assert freed == [owner for owner in reversed(made) if owner not in gone]
    assert device.driver.released and not device.driver.live


def test_with_closes_even_after_an_error(device):
    with pytest.raises(ZeroDivisionError), device.active(), device.stream():
        _ = 1 / 0
    assert not device.driver.live
    device.close()


def test_error_while_freeing_does_not_stop_the_rest(device):
    with device.active():
        for _ in range(3):
            device.memory(16)
    device.driver.fail = {"free": (1, (700, "CUDA_ERROR_ILLEGAL_ADDRESS", "broken"))}
    device.driver.release = lambda: setattr(device.driver, "released", True)
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
        device.close()
    assert device.driver.log.count("free") == 3 and device.driver.released


def test_borrowed_stream_is_never_destroyed(device):
    with device.active():
        borrowed = device.adopt(7)
        assert borrowed.number == 7 and borrowed.__cuda_stream__() == (0, 7)
    borrowed.close()
    assert "destroy_stream" not in device.driver.log
    device.close()


def test_copy_larger_than_its_memory_is_refused(device):
    with device.active():
        memory, pinned, stream = device.memory(8), device.pinned(16), device.stream()
        with pytest.raises(InputError, match="16 bytes, expected at most 8"):
            memory.upload(pinned.array, stream)
        with pytest.raises(InputError, match="16 bytes, expected at most 8"):
            memory.download(pinned.array, stream)
    device.close()


def test_bytes_go_up_and_come_back(device):
    with device.active():
        up, down, memory, stream = device.pinned(32), device.pinned(32), device.memory(32), None
        stream = device.stream()
        up.array[:] = np.arange(32)
        memory.upload(up.array, stream)
        memory.download(down.array, stream)
        stream.synchronize()
        assert down.array.tolist() == list(range(32))
    device.close()


def test_failed_capture_leaves_the_stream_usable(device):
    with device.active():
        stream = device.stream()
        with pytest.raises(ZeroDivisionError):
            stream.capture(lambda: 1 / 0)
        assert stream.handle.capture is None
        graph = stream.capture(lambda: device.driver.fill_zero(0, 0, stream.handle))
        graph.close()
    device.close()


def test_calls_outside_active_are_caught_by_the_context_rule(device):
    with pytest.raises(AssertionError, match="without a current context"):
        device.stream()
    device.close()
    with pytest.raises(ClosedError), device.active():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_is_refused_and_frees_nothing(tmp_path):
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from fake_gpu import FakeDriver
from esccs_edge.cuda.owners import Device
from esccs_edge.errors import ForkedProcessError
device = Device(FakeDriver())
with device.active():
    memory = device.memory(8)
child = os.fork()
if child == 0:
    try:
        with device.active():
            code = 1
    except ForkedProcessError:
        code = 0
    memory.close()
    device.close()
    os._exit(code if device.driver.log == ["alloc"] else 2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
device.close()
assert not device.driver.live
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


# Streams of other libraries, errors, choice of provider


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
        module = types.ModuleType(f"esccs_edge.cuda.{name}")
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


@pytest.mark.skipif(HAS_GPU, reason="this host has a GPU")
def test_host_without_a_driver_is_told_so():
    with pytest.raises(BackendError, match="no GPU can be used: no CUDA driver"):
        open_driver()


# The probe


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


# The providers against the modules they wrap


def test_cuda_python_has_every_name_we_call():
    pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-python")
    import ast

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
    import ast

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
    import inspect

    from esccs_edge.cuda.cuda_python_driver import CudaPythonDriver
    from esccs_edge.cuda.driver import Driver

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


class PycudaErrors(Exception):
    """Base of pycuda's exceptions."""


def pycuda_driver():
    """Our module over a recorded surface of pycuda 2026.1 (names and arguments)."""
    fake = types.ModuleType("pycuda.driver")
    fake.Error = PycudaErrors
    fake.MemoryError = type("MemoryError", (PycudaErrors,), {})
    fake.LaunchError = type("LaunchError", (PycudaErrors,), {})
    fake.Stream = type("Stream", (), {"handle": 7, "__init__": lambda self, flags=0: None})
    fake.device_attribute = types.SimpleNamespace(
        INTEGRATED=1, COMPUTE_CAPABILITY_MAJOR=2, COMPUTE_CAPABILITY_MINOR=3
    )
    fake.event_flags = types.SimpleNamespace(BLOCKING_SYNC=1, DISABLE_TIMING=2)
    fake.host_alloc_flags = types.SimpleNamespace(DEVICEMAP=2)
    package = types.ModuleType("pycuda")
    package.driver = fake
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pycuda", package)
        patch.setitem(sys.modules, "pycuda.driver", fake)
        patch.delitem(sys.modules, "esccs_edge.cuda.pycuda_driver", raising=False)
        import importlib

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


def test_pycudas_errors_become_ours():
    module, _ = bare_pycuda()
    for kind, action in (("MemoryError", "smaller-batch"), ("LaunchError", "restart")):
        with pytest.raises(CudaError, match="cuX failed") as caught, module.checked("cuX"):
            raise getattr(module.pycuda, kind)("driver words")
        assert caught.value.action == action and "driver words" in str(caught.value)


def test_pycuda_passes_a_struct_as_its_bytes():
    _, driver = bare_pycuda()
    seen = {}

    class Function:
        def prepare(self, types_):
            seen["types"] = types_

        def prepared_async_call(self, grid, block, stream, content, shared_size):
            seen.update(grid=grid, block=block, content=content, shared=shared_size)

    values = np.zeros((), gpu.PARAMS)
    values["channels"] = 13
    driver.launch(Function(), (8, 64), 128, 1024, None, values)
    assert seen == {
        "types": ["80s"],
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
import fake_gpu, test_30_trt_backend as lanes
from tiny import tiny_bundle
from esccs_edge import trt_backend
from esccs_edge.cuda.owners import Device
from esccs_edge.engine_cache import EngineCache
from esccs_edge.errors import CudaError
from esccs_edge.trt_api import LoadedEngine, error_log

device = Device.open()
assert device.driver.name == os.environ["ESCCS_CUDA"]
with device.active():
    assert (device.name, device.compute_capability, device.integrated) == ("Fake GPU", "8.9", False)
    assert device.free_bytes() == 123
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
flavor = fake_gpu.fake_flavor(AtOnce(), bundle.manifest)
engine = LoadedEngine(flavor, flavor.trt.engine, error_log(flavor), None)
trt_backend.pick_flavor = lambda: flavor
trt_backend.EngineSource.load = lambda self, cache: engine
backend = trt_backend.TrtBackend(
    bundle, bundle.manifest, max_batch=8, graph_batches=(), cache=EngineCache(folder / "engines")
)
lane = backend.open_lane()
for count in (1, 5, 8):
    pairs = lanes.awkward_batch(bundle.manifest, count)
    lane.start(pairs)
    lanes.assert_same(lane.finish(), lanes.cpu_answer(folder / "bundle", pairs))
print(backend.describe()["device"])
backend.close()
"""


@pytest.mark.skipif(HAS_GPU, reason="this host has the real driver")
@pytest.mark.skipif(sys.platform != "linux", reason="replaces libcuda.so.1")
@pytest.mark.parametrize(
    "provider, package", [("cuda-python", "cuda.bindings"), ("pycuda", "pycuda")]
)
def test_real_binding_runs_a_lane_over_a_fake_libcuda(tmp_path, provider, package):
    """Every argument goes through the real binding; only the driver below it is ours."""
    if not _is_installed(package):
        pytest.skip(f"{provider} is not installed")
    host_kernels()  # skips where there is no compiler
    tests = ROOT / "tests"
    compiler = ["g++", "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC"]
    folders = [f"-I{ROOT / 'esccs_edge' / 'native'}", f"-I{tests}"]
    target = tmp_path / "libcuda.so.1"
    subprocess.run(
        [*compiler, *folders, tests / "fake_libcuda.cpp", "-o", target, "-ldl"],
        check=True,
        capture_output=True,
    )
    (tmp_path / "libcuda.so").symlink_to(target)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "ESCCS_CUDA": provider}
    done = subprocess.run(
        [sys.executable, "-c", OVER_FAKE_LIBCUDA, tests, tmp_path],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Fake GPU"
    assert "WARNING" not in done.stderr  # pycuda only warns when something was freed too late


def _is_installed(package):
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def test_kernel_ends_with_its_module(device):
    host_kernels()
    with device.active():
        module, stream = device.module(b"fake"), device.stream()
        kernel = module.kernel("esccs_availability")
        module.close()
        with pytest.raises(ClosedError, match="kernel's module"):
            kernel.launch(stream, (1, 1), 32, np.zeros((), gpu.AVAILABILITY_PARAMS))
    device.close()


# The kernels


def run_kernel(images, spec, *, linear_to_db=False, max_batch=None):
    """Lay a batch out, run the kernel on the CPU, and read it back as the lane does."""
    shape = next(image.shape for image in images if image is not None)
    pixels = shape[1] * shape[2]
    layout = gpu.RawLayout(max_batch or len(images), shape[0], pixels)
    raw, start = np.full(layout.capacity + 256, 0xAB, np.uint8), 0
    start = -raw.ctypes.data % 256
    raw = raw[start : start + layout.capacity]
    assert layout.fill(raw, images) <= layout.capacity
    out = np.full((len(images), *shape), np.nan, np.float32)
    out = _aligned_like(out)
    stats = np.zeros(len(images), gpu.STATS)
    table = gpu.statistics(spec)
    values = gpu.parameters(
        spec,
        pixels,
        raw=raw.ctypes.data,
        out=out.ctypes.data,
        stats=stats.ctypes.data,
        statistics=table.ctypes.data,
        linear_to_db=linear_to_db,
    )
    launch = gpu.launch_of(shape[0], pixels)
    host_kernels().host_esccs_preprocess_f32(
        ctypes.c_void_p(values.ctypes.data), launch.tiles, len(images), launch.block
    )
    present = [image is not None for image in images]
    return out, gpu.read_stats(stats, present, shape[0], pixels)


def _aligned_like(array):
    block = np.empty(array.nbytes + 256, np.uint8)
    start = -block.ctypes.data % 256
    made = block[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made[:] = array
    return made


def assert_stats(mine, theirs):
    assert (mine.pixels, mine.valid, mine.nonfinite) == (
        theirs.pixels,
        theirs.valid,
        theirs.nonfinite,
    )
    assert (mine.below, mine.above) == (theirs.below, theirs.above)
    np.testing.assert_array_equal([mine.minimum, mine.maximum], [theirs.minimum, theirs.maximum])
    # Values of both signs may cancel; then the order of the sum counts against the largest of them.
    largest = np.nanmax(np.abs([theirs.minimum, theirs.maximum, 0.0]))
    np.testing.assert_allclose(mine.mean, theirs.mean, rtol=MEAN_RTOL, atol=1e-6 * largest)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    height=st.integers(1, 17),
    width=st.sampled_from([1, 7, 8, 16, 31, 64]),
    seed=st.integers(0, 10_000),
    db=st.booleans(),
)
def test_kernel_source_equals_the_cpu_module_on_any_patch(dtype, height, width, seed, db):
    spec = tiny_manifest().optical
    images = [_patch(dtype, height, width, seed + i, len(spec.channels)) for i in range(2)]
    images.insert(1, None)
    out, stats = run_kernel(images, spec, linear_to_db=db, max_batch=5)
    wanted = np.full(out.shape, np.nan, np.float32)
    wanted_stats = preprocess(images, spec, wanted, linear_to_db=db, threads=1)
    np.testing.assert_array_equal(out, wanted)
    for mine, theirs in zip(stats, wanted_stats, strict=True):
        assert_stats(mine, theirs)


def _patch(dtype, height, width, seed, channels):
    rng = np.random.default_rng(seed)
    shape = (channels, height, width)
    if dtype == "float32":
        image = rng.normal(0.3, 0.6, shape).astype(np.float32)
        image[rng.uniform(size=shape) < 0.01] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
    else:
        limits = np.iinfo(dtype)
        image = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    image[:, rng.uniform(size=(height, width)) < 0.1] = 0
    return image


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_kernel_source_agrees_with_the_oracle(dtype):
    spec = tiny_manifest().optical
    image = _patch(dtype, 16, 16, 3, 13)
    out, (stats,) = run_kernel([image], spec)
    wanted, numbers = oracle.preprocess(image, spec)
    np.testing.assert_allclose(out[0], wanted, atol=ORACLE_ATOL)
    assert (stats.valid, stats.nonfinite) == (numbers["valid"], numbers["nonfinite"])


def test_all_absent_and_all_nodata_patches_become_zero():
    spec = tiny_manifest().optical
    out, stats = run_kernel([None, np.zeros((13, 8, 8), np.uint16)], spec)
    assert not out.any()
    assert stats[0].pixels == 0 and stats[1].valid == 0 and np.isnan(stats[1].mean)


def test_availability_divides_as_the_cpu_does():
    rng = np.random.default_rng(0)
    rows = np.zeros((2, 50), gpu.STATS)
    rows["valid"] = rng.integers(0, 4097, (2, 50))
    shares = np.full((50, 2), np.nan, np.float32)
    values = gpu.availability_parameters(
        rows[0].ctypes.data, rows[1].ctypes.data, shares.ctypes.data, 4096, 50
    )
    host_kernels().host_esccs_availability(ctypes.c_void_p(values.ctypes.data), 1, 1, 128)
    np.testing.assert_array_equal(shares, (rows["valid"].T / 4096).astype(np.float32))


def test_layouts_have_the_sizes_that_the_kernels_assert():
    sizes = [t.itemsize for t in (gpu.PATCH, gpu.STATS, gpu.PARAMS, gpu.AVAILABILITY_PARAMS)]
    assert sizes == [16, 32, 80, 40]


@given(st.integers(1, 96), st.integers(1, 10**6))
def test_launch_fits_every_device(channels, pixels):
    launch = gpu.launch_of(channels, pixels)
    assert launch.block % 32 == 0 and launch.shared_bytes <= 48 * 1024
    assert launch.tiles * launch.block * 4 >= pixels


def test_too_many_channels_for_the_kernel_are_refused():
    with pytest.raises(InputError, match="97 channels, the CUDA kernel takes at most 96"):
        gpu.launch_of(97, 100)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_ordered_integers_give_back_every_float(values):
    floats = np.array(values, np.float32)
    bits = floats.view(np.uint32)
    order = np.where(bits & 0x80000000, ~bits, bits | np.uint32(0x80000000)).astype(np.uint32)
    np.testing.assert_array_equal(gpu._floats(order), floats)
    assert np.array_equal(np.argsort(order, kind="stable"), np.argsort(floats + 0.0, kind="stable")
                          ) or (floats == 0).any()  # fmt: skip


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_installed_fatbin_holds_the_kernels():
    content = gpu.load_fatbin()
    assert content[:4] == b"\x50\xed\x55\xba"
    assert len(content) > 50_000


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason=f"no GPU: {probe_driver().problem}")
@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
def test_real_kernel_equals_the_cpu_module(monkeypatch, provider):
    pytest.importorskip({"cuda-python": "cuda.bindings", "pycuda": "pycuda"}[provider])
    monkeypatch.setenv("ESCCS_CUDA", provider)
    spec = tiny_manifest().optical
    for dtype in ("uint8", "uint16", "int16", "float32"):
        for side in (15, 64):
            images = [_patch(dtype, side, side, i, 13) for i in range(4)]
            images.insert(2, None)
            out, stats = on_gpu(images, spec)
            wanted = np.empty(out.shape, np.float32)
            wanted_stats = preprocess(images, spec, wanted)
            np.testing.assert_array_equal(out, wanted)
            for mine, theirs in zip(stats, wanted_stats, strict=True):
                assert_stats(mine, theirs)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason=f"no GPU: {probe_driver().problem}")
@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
def test_real_memory_comes_back_and_copies_are_exact(monkeypatch, provider):
    pytest.importorskip({"cuda-python": "cuda.bindings", "pycuda": "pycuda"}[provider])
    monkeypatch.setenv("ESCCS_CUDA", provider)
    size = 64 << 20
    with Device.open() as device, device.active():
        device.stream().synchronize()  # what the first call of a context allocates is its own
        before = device.free_bytes()
        for _ in range(5):
            with (
                device.memory(size) as memory,
                device.pinned(size) as up,
                device.stream() as stream,
            ):
                assert device.free_bytes() <= before - size
                up.array[:] = np.arange(size) % 251
                with device.pinned(size) as down:
                    memory.upload(up.array, stream)
                    memory.download(down.array, stream)
                    stream.synchronize()
                    np.testing.assert_array_equal(down.array, up.array)
        assert device.free_bytes() >= before - (size >> 3)  # others may take a little meanwhile


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason=f"no GPU: {probe_driver().problem}")
def test_real_stream_of_torch_is_borrowed(monkeypatch):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    monkeypatch.setenv("ESCCS_CUDA", "cuda-python")
    theirs = torch.cuda.Stream()
    with Device.open() as device, device.active():
        ours = device.adopt(theirs)
        assert ours.number == theirs.cuda_stream
        event = device.event()
        event.record(ours)
        event.synchronize()
    theirs.synchronize()


def on_gpu(images, spec):
    """The lane's branch alone: upload, kernel, and the input read back."""
    from esccs_edge.trt_branch import Branch
    from esccs_edge.trt_buffers import Allocator

    channels, side = images[0].shape[0], images[0].shape[1]
    with Device.open() as device, device.active():
        module = device.module(gpu.load_fatbin())
        make = Allocator(device)
        branch = Branch(make, spec, side * side, max_batch=len(images), mapped=False)
        size = gpu.STATS.itemsize * len(images)
        stats, rows = device.memory(size), device.pinned(size)
        back = device.pinned(4 * channels * side * side * len(images))
        branch.upload(images)
        kernel = module.kernel("esccs_preprocess_f32")
        branch.enqueue(kernel, len(images), stats.address, size)
        stats.download(rows.array, branch.stream)
        branch.input.download(back.array, branch.stream)
        branch.stream.synchronize()
        out = back.array.view(np.float32).reshape(len(images), channels, side, side).copy()
        return out, branch.read(rows.array.view(gpu.STATS))
