"""Owners of CUDA things, over a counting fake; `gpu` tests at the end need the device."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_gpu import FakeDriver, host_kernels
from support.host_compiler import ROOT

from esccs_edge.backends.trt import pixel_kernels as gpu
from esccs_edge.cuda.device import Device
from esccs_edge.cuda.driver import Arguments, LaunchShape
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.errors import ClosedError, CudaError, InputError

MAKERS = {
    "stream": lambda d: d.stream(),
    "event": lambda d: d.event(),
    "memory": lambda d: d.memory(64),
    "pinned": lambda d: d.pinned(64),
    "module": lambda d: d.module(b"fake"),
}


@pytest.fixture
def device():
    return Device(FakeDriver())


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


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(MAKERS)), max_size=12), st.randoms(use_true_random=False))
def test_device_closes_what_is_left_in_reverse_order_of_making(names, chooser):
    driver = FakeDriver()
    device = Device(driver)
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
    assert driver.released and not driver.live


def test_with_closes_even_after_an_error(device):
    with pytest.raises(ZeroDivisionError), device.active(), device.stream():
        _ = 1 / 0
    assert not device.driver.live
    device.close()


def test_error_while_freeing_does_not_stop_the_rest(device):
    with device.active():
        for _ in range(3):
            device.memory(16)
    device.driver.fail = {"free": (1, (1, "CUDA_ERROR_INVALID_VALUE", "broken"))}
    device.driver.release = lambda: setattr(device.driver, "released", True)
    with pytest.raises(CudaError, match="INVALID_VALUE"):
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
        larger = device.memory(32)
        for copy in (memory.upload, memory.download):
            with pytest.raises(InputError, match="16 bytes, expected at most 8"):
                copy(pinned, 16, stream)
        for copy in (larger.upload, larger.download):
            with pytest.raises(InputError, match="32 bytes, expected at most 16"):
                copy(pinned, 32, stream)
    assert not {"copy_to_device", "copy_to_host"} & set(device.driver.log)
    device.close()


def test_bytes_go_up_and_come_back(device):
    with device.active():
        up, down, memory, stream = device.pinned(32), device.pinned(32), device.memory(32), None
        stream = device.stream()
        up.array[:] = np.arange(32)
        down.array[:] = 99
        memory.upload(up, 32, stream)
        memory.download(down, 20, stream)
        stream.synchronize()
        assert down.array.tolist() == [*range(20), *[99] * 12]
    device.close()


def test_clear_zeroes_a_part_of_the_memory_and_no_more(device):
    with device.active():
        host, memory, stream = device.pinned(32), device.memory(32), device.stream()
        host.array[:] = 7
        memory.upload(host, 32, stream)
        memory.clear(stream, 8, 16)
        memory.download(host, 32, stream)
        stream.synchronize()
        assert host.array.tolist() == [7] * 8 + [0] * 16 + [7] * 8
        memory.clear(stream)
        memory.download(host, 32, stream)
        stream.synchronize()
        assert not host.array.any()
        with pytest.raises(InputError, match="40 bytes, expected at most 32"):
            memory.clear(stream, 8, 32)
    device.close()


def test_freed_memory_has_no_address_although_it_was_asked_before(device):
    with device.active():
        memory = device.memory(8)
        assert memory.address == memory.address != 0
        memory.close()
        with pytest.raises(ClosedError):
            _ = memory.address
    device.close()


def test_failed_capture_leaves_the_stream_usable(device):
    with device.active():
        stream = device.stream()
        with pytest.raises(ZeroDivisionError):
            stream.capture(lambda: 1 / 0)
        assert stream.handle.capture is None
        memory = device.memory(8)
        graph = stream.capture(lambda: memory.clear(stream))
        graph.close()
    device.close()


def test_calls_outside_active_are_caught_by_the_context_rule(device):
    with pytest.raises(AssertionError, match="without a current context"):
        device.stream()
    device.close()
    with pytest.raises(ClosedError), device.active():
        pass


@pytest.mark.fault(78)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_is_refused_and_frees_nothing(tmp_path):
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from support.fake_gpu import FakeDriver
from esccs_edge.cuda.device import Device
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


def test_kernel_ends_with_its_module(device):
    host_kernels()
    with device.active():
        module, stream = device.module(b"fake"), device.stream()
        kernel = module.kernel("esccs_preprocess_f32")
        module.close()
        arguments = Arguments(np.zeros((), gpu.PARAMS))
        with pytest.raises(ClosedError, match="kernel's module"):
            kernel.launch(stream, LaunchShape((1, 1), 32), arguments)
    device.close()


@pytest.mark.gpu
@pytest.mark.skipif(bool(probe_driver().problem), reason=f"no GPU: {probe_driver().problem}")
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
                    memory.upload(up, size, stream)
                    memory.download(down, size, stream)
                    stream.synchronize()
                    np.testing.assert_array_equal(down.array, up.array)
        assert device.free_bytes() >= before - (size >> 3)  # others may take a little meanwhile


@pytest.mark.gpu
@pytest.mark.skipif(bool(probe_driver().problem), reason=f"no GPU: {probe_driver().problem}")
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
