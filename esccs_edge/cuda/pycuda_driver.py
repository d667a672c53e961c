"""The `Driver` over ``pycuda``, through the primary context only (never ``pycuda.autoinit``).

pycuda keeps contexts on a stack per thread, so every group of calls pushes and pops. It has no
CUDA-graph calls and cannot use a stream that another library made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pycuda.driver as pycuda

from ..errors import CudaError, InputError
from .driver import Arguments, Driver, Handle, LaunchShape, cuda_error, grid_of
from .error_words import number_of_words
from .pointers import Pointer, pointer_at
from .probe import device_attribute


def open_device(ordinal: int) -> Driver:
    """Retain a device's primary context, which torch and other libraries share."""
    return PycudaDriver(ordinal)


_OUT_OF_MEMORY, _UNKNOWN = 2, 999
#: CU_STREAM_NON_BLOCKING; pycuda takes the number.
_NON_BLOCKING = 1


@contextmanager
def checked(call: str) -> Iterator[None]:
    """Turn pycuda's exceptions into `CudaError`."""
    try:
        yield
    except pycuda.Error as error:
        raise cuda_error(call, _number_of(error), type(error).__name__, str(error)) from error


def _number_of(error: Exception) -> int:
    """Return the CUresult, which pycuda's exceptions have in the driver's own words only.

    Their text is ``<call> failed: <words>``, then perhaps `` - `` and a remark of pycuda.
    """
    _, _, words = str(error).partition(" failed: ")
    number = number_of_words(words.partition(" - ")[0].strip())
    if number is not None:
        return number
    return _OUT_OF_MEMORY if isinstance(error, pycuda.MemoryError) else _UNKNOWN


class PycudaDriver:
    """One device; handles are pycuda's own objects."""

    name = "pycuda"
    has_graphs = False

    def __init__(self, ordinal: int) -> None:
        self._ordinal = ordinal
        with checked("cuInit"):
            pycuda.init()
            self._device = pycuda.Device(ordinal)
            self._context = self._device.retain_primary_context()

    def attribute(self, number: int) -> int:
        # By ctypes, since pycuda names only some of them.
        return device_attribute(self._ordinal, number)

    def device_name(self) -> str:
        return str(self._device.name())

    def push(self) -> None:
        with checked("cuCtxPushCurrent"):
            self._context.push()

    def pop(self) -> None:
        with checked("cuCtxPopCurrent"):
            pycuda.Context.pop()

    def release(self) -> None:
        with checked("cuDevicePrimaryCtxRelease"):
            self._context.detach()

    def memory_info(self) -> tuple[int, int]:
        with checked("cuMemGetInfo"):
            free, total = pycuda.mem_get_info()
        return int(free), int(total)

    def pointer(self, address: int) -> Pointer:
        return pointer_at(address)

    def alloc(self, size: int) -> Handle:
        with checked("cuMemAlloc"):
            return pycuda.mem_alloc(size)

    def free(self, memory: Handle) -> None:
        with checked("cuMemFree"):
            memory.free()

    def alloc_host(self, size: int, mapped: bool) -> Handle:
        flags = pycuda.host_alloc_flags.DEVICEMAP if mapped else 0
        with checked("cuMemHostAlloc"):
            return pycuda.pagelocked_empty(size, np.uint8, mem_flags=flags)

    def free_host(self, memory: Handle) -> None:
        with checked("cuMemFreeHost"):
            memory.base.free()

    def address(self, memory: Handle) -> int:
        if not isinstance(memory, np.ndarray):
            return int(memory)
        allocation: Any = memory.base
        with checked("cuMemHostGetDevicePointer"):
            return int(allocation.get_device_pointer())

    def host_array(self, memory: Handle) -> npt.NDArray[np.uint8]:
        view: npt.NDArray[np.uint8] = memory[:]
        return view

    def copy_to_device(self, target: int, source: Handle, size: int, stream: Handle) -> None:
        with checked("cuMemcpyHtoDAsync"):
            pycuda.memcpy_htod_async(target, source[:size], stream)

    def copy_to_host(self, target: Handle, source: int, size: int, stream: Handle) -> None:
        with checked("cuMemcpyDtoHAsync"):
            pycuda.memcpy_dtoh_async(target[:size], source, stream)

    def fill_zero(self, address: int, size: int, stream: Handle) -> None:
        with checked("cuMemsetD8Async"):
            pycuda.memset_d8_async(address, 0, size, stream)

    def create_stream(self) -> Handle:
        with checked("cuStreamCreate"):
            return pycuda.Stream(_NON_BLOCKING)

    def adopt_stream(self, stream: Any) -> Handle:
        if not isinstance(stream, pycuda.Stream):
            raise InputError(
                f"pycuda cannot use a stream made as {type(stream).__name__}",
                hint="Pass a pycuda.driver.Stream, or set ESCCS_CUDA=cuda-python",
            )
        return stream

    def destroy_stream(self, stream: Handle) -> None:
        """Do nothing: pycuda destroys a stream when the last reference goes."""

    def synchronize_stream(self, stream: Handle) -> None:
        with checked("cuStreamSynchronize"):
            stream.synchronize()

    def stream_number(self, stream: Handle) -> int:
        return int(stream.handle)

    def create_event(self, timing: bool, blocking: bool) -> Handle:
        flags = pycuda.event_flags.BLOCKING_SYNC if blocking else 0
        if not timing:
            flags |= pycuda.event_flags.DISABLE_TIMING
        with checked("cuEventCreate"):
            return pycuda.Event(flags)

    def adopt_event(self, event: Any) -> Handle:
        if not isinstance(event, pycuda.Event):
            raise InputError(
                f"pycuda cannot wait for an event made as {type(event).__name__}",
                hint="Pass a pycuda.driver.Event, or set ESCCS_CUDA=cuda-python",
            )
        return event

    def destroy_event(self, event: Handle) -> None:
        """Do nothing: pycuda destroys an event when the last reference goes."""

    def record_event(self, event: Handle, stream: Handle) -> None:
        with checked("cuEventRecord"):
            event.record(stream)

    def wait_event(self, stream: Handle, event: Handle) -> None:
        with checked("cuStreamWaitEvent"):
            stream.wait_for_event(event)

    def synchronize_event(self, event: Handle) -> None:
        with checked("cuEventSynchronize"):
            event.synchronize()

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        with checked("cuEventElapsedTime"):
            return float(start.time_till(end))

    def load_module(self, image: bytes) -> Handle:
        with checked("cuModuleLoadData"):
            return pycuda.module_from_buffer(image)

    def unload_module(self, module: Handle) -> None:
        """Do nothing: pycuda unloads a module when the last reference goes."""

    def function(self, module: Handle, name: str) -> Handle:
        with checked("cuModuleGetFunction"):
            return module.get_function(name)

    def launch(
        self, function: Handle, shape: LaunchShape, stream: Handle, arguments: Arguments
    ) -> None:
        with checked("cuLaunchKernel"):
            # Prepared with the struct's size: pycuda then copies its bytes as they are.
            function.prepare([f"{arguments.struct.nbytes}s"])
            function.prepared_async_call(
                grid_of(shape.grid),
                (shape.block, 1, 1),
                stream,
                arguments.struct.tobytes(),
                shared_size=shape.shared_bytes,
            )

    def begin_capture(self, stream: Handle) -> None:
        """Refuse: pycuda has no such call."""
        raise CudaError(
            "CUDA graphs were asked for, but pycuda has no calls for them",
            hint="Set ESCCS_CUDA=cuda-python, or turn graphs off",
        )

    def end_capture(self, stream: Handle) -> Handle:
        """Refuse, as `begin_capture` does."""
        self.begin_capture(stream)

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        """Refuse, as `begin_capture` does."""
        self.begin_capture(stream)

    def destroy_graph(self, graph: Handle) -> None:
        """Refuse, as `begin_capture` does."""
        self.begin_capture(graph)
