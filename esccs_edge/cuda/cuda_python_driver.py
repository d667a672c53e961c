"""The `Driver` over NVIDIA's ``cuda-python`` (``cuda.bindings.driver``), 12.x and 13.x."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from cuda.bindings import driver as cu

from ..errors import CudaError, InputError
from .driver import (
    Arguments,
    Driver,
    Handle,
    LaunchShape,
    cuda_error,
    event_number_of,
    grid_of,
    stream_number_of,
)
from .pointers import Pointer, pointer_at


def open_device(ordinal: int) -> Driver:
    """Retain a device's primary context, which torch and other libraries share."""
    return CudaPythonDriver(ordinal)


def check(call: str, answer: tuple[Any, ...]) -> Any:
    """Return what a driver call returned besides its status, or raise `CudaError`."""
    status, *values = answer
    if status:  # CUDA_SUCCESS is 0
        raise _error(call, status)
    return values[0] if len(values) == 1 else tuple(values) or None


def done(call: str, answer: tuple[Any]) -> None:
    """The same for a call that returns its status only; for those of every batch."""
    if answer[0]:
        raise _error(call, answer[0])


def _error(call: str, status: Any) -> CudaError:
    _, name = cu.cuGetErrorName(status)
    _, explanation = cu.cuGetErrorString(status)
    return cuda_error(call, int(status), _text(name), _text(explanation))


def _text(content: bytes | None) -> str:
    return content.decode(errors="replace") if content else "unknown error"


class PinnedBlock(NamedTuple):
    """The handle of pinned memory: where it is and how large."""

    pointer: Any
    size: int


class CudaPythonDriver:
    """One device; handles are the wrapper objects of ``cuda.bindings``, or a `PinnedBlock`."""

    name = "cuda-python"
    has_graphs = True

    def __init__(self, ordinal: int) -> None:
        check("cuInit", cu.cuInit(0))
        self._device = check("cuDeviceGet", cu.cuDeviceGet(ordinal))
        retained = cu.cuDevicePrimaryCtxRetain(self._device)
        self._context = check("cuDevicePrimaryCtxRetain", retained)

    def attribute(self, number: int) -> int:
        wanted = cu.CUdevice_attribute(number)
        answer = cu.cuDeviceGetAttribute(wanted, self._device)
        return int(check("cuDeviceGetAttribute", answer))

    def device_name(self) -> str:
        name = check("cuDeviceGetName", cu.cuDeviceGetName(256, self._device))
        return str(name.split(b"\0")[0].decode(errors="replace"))

    def push(self) -> None:
        done("cuCtxPushCurrent", cu.cuCtxPushCurrent(self._context))

    def pop(self) -> None:
        status, _ = cu.cuCtxPopCurrent()
        done("cuCtxPopCurrent", (status,))

    def release(self) -> None:
        check("cuDevicePrimaryCtxRelease", cu.cuDevicePrimaryCtxRelease(self._device))

    def memory_info(self) -> tuple[int, int]:
        free, total = check("cuMemGetInfo", cu.cuMemGetInfo())
        return int(free), int(total)

    def pointer(self, address: int) -> Pointer:
        return pointer_at(address)

    def alloc(self, size: int) -> Handle:
        return check("cuMemAlloc", cu.cuMemAlloc(size))

    def free(self, memory: Handle) -> None:
        check("cuMemFree", cu.cuMemFree(memory))

    def alloc_host(self, size: int, mapped: bool) -> Handle:
        flags = cu.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0
        return PinnedBlock(check("cuMemHostAlloc", cu.cuMemHostAlloc(size, flags)), size)

    def free_host(self, memory: Handle) -> None:
        check("cuMemFreeHost", cu.cuMemFreeHost(memory.pointer))

    def address(self, memory: Handle) -> int:
        if not isinstance(memory, PinnedBlock):
            return int(memory)
        answer = cu.cuMemHostGetDevicePointer(memory.pointer, 0)
        return int(check("cuMemHostGetDevicePointer", answer))

    def host_array(self, memory: Handle) -> npt.NDArray[np.uint8]:
        content = (ctypes.c_uint8 * memory.size).from_address(int(memory.pointer))
        return np.frombuffer(content, np.uint8)

    def copy_to_device(self, target: int, source: Handle, size: int, stream: Handle) -> None:
        done("cuMemcpyHtoDAsync", cu.cuMemcpyHtoDAsync(target, source.pointer, size, stream))

    def copy_to_host(self, target: Handle, source: int, size: int, stream: Handle) -> None:
        done("cuMemcpyDtoHAsync", cu.cuMemcpyDtoHAsync(target.pointer, source, size, stream))

    def fill_zero(self, address: int, size: int, stream: Handle) -> None:
        check("cuMemsetD8Async", cu.cuMemsetD8Async(address, 0, size, stream))

    def create_stream(self) -> Handle:
        flag = int(cu.CUstream_flags.CU_STREAM_NON_BLOCKING)
        return check("cuStreamCreate", cu.cuStreamCreate(flag))

    def adopt_stream(self, stream: Any) -> Handle:
        return cu.CUstream(stream_number_of(stream))

    def destroy_stream(self, stream: Handle) -> None:
        check("cuStreamDestroy", cu.cuStreamDestroy(stream))

    def synchronize_stream(self, stream: Handle) -> None:
        check("cuStreamSynchronize", cu.cuStreamSynchronize(stream))

    def stream_number(self, stream: Handle) -> int:
        return int(stream)

    def create_event(self, timing: bool, blocking: bool) -> Handle:
        flags = int(cu.CUevent_flags.CU_EVENT_BLOCKING_SYNC) if blocking else 0
        if not timing:
            flags |= int(cu.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        return check("cuEventCreate", cu.cuEventCreate(flags))

    def adopt_event(self, event: Any) -> Handle:
        number = event_number_of(event)
        if not number:
            raise InputError(
                f"cuda-python cannot use an event made as {type(event).__name__}",
                hint="Set ESCCS_CUDA=pycuda, or record it on a stream and pass the stream",
            )
        return cu.CUevent(number)

    def destroy_event(self, event: Handle) -> None:
        check("cuEventDestroy", cu.cuEventDestroy(event))

    def record_event(self, event: Handle, stream: Handle) -> None:
        done("cuEventRecord", cu.cuEventRecord(event, stream))

    def wait_event(self, stream: Handle, event: Handle) -> None:
        check("cuStreamWaitEvent", cu.cuStreamWaitEvent(stream, event, 0))

    def synchronize_event(self, event: Handle) -> None:
        done("cuEventSynchronize", cu.cuEventSynchronize(event))

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        return float(check("cuEventElapsedTime", cu.cuEventElapsedTime(start, end)))

    def load_module(self, image: bytes) -> Handle:
        content = np.frombuffer(image, np.uint8)
        return check("cuModuleLoadData", cu.cuModuleLoadData(content.ctypes.data))

    def unload_module(self, module: Handle) -> None:
        check("cuModuleUnload", cu.cuModuleUnload(module))

    def function(self, module: Handle, name: str) -> Handle:
        return check("cuModuleGetFunction", cu.cuModuleGetFunction(module, name.encode()))

    def launch(
        self, function: Handle, shape: LaunchShape, stream: Handle, arguments: Arguments
    ) -> None:
        columns, rows = grid_of(shape.grid)
        block, shared = shape.block, shape.shared_bytes
        answer = cu.cuLaunchKernel(
            function, columns, rows, 1, block, 1, 1, shared, stream, arguments.address, 0
        )
        done("cuLaunchKernel", answer)

    def begin_capture(self, stream: Handle) -> None:
        mode = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check("cuStreamBeginCapture", cu.cuStreamBeginCapture(stream, mode))

    def end_capture(self, stream: Handle) -> Handle:
        graph = check("cuStreamEndCapture", cu.cuStreamEndCapture(stream))
        try:
            return check("cuGraphInstantiate", cu.cuGraphInstantiate(graph, 0))
        finally:
            check("cuGraphDestroy", cu.cuGraphDestroy(graph))

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        done("cuGraphLaunch", cu.cuGraphLaunch(graph, stream))

    def destroy_graph(self, graph: Handle) -> None:
        check("cuGraphExecDestroy", cu.cuGraphExecDestroy(graph))
