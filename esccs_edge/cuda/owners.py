"""Owners of CUDA things: each is freed exactly once, by `close` or at the end of its `with`.

A `device.Device` makes them. Views (`address`, `array`) borrow and die with their owner.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import ClosedError, CudaError, InputError
from .driver import Arguments, Driver, Handle, LaunchShape

Made = TypeVar("Made", bound="Owner")


class Maker(Protocol):
    """What owners need of the `device.Device` that made them."""

    driver: Driver
    lost: str

    @property
    def lock(self) -> AbstractContextManager[Any]: ...  # noqa: D102
    @property
    def is_ours(self) -> bool: ...  # noqa: D102
    def active(self) -> AbstractContextManager[None]: ...  # noqa: D102
    def note(self, error: BaseException) -> None: ...  # noqa: D102
    def own(self, kind: type[Made], *arguments: Any) -> Made: ...  # noqa: D102
    def forget(self, owner: Owner) -> None: ...  # noqa: D102


class Owner:
    """Something of a device that must be freed.

    Args:
        device: Where it lives.
        handle: What the driver calls it.
        free: Frees the handle; None for a borrowed one.
    """

    def __init__(
        self, device: Maker, handle: Handle, free: Callable[[Handle], None] | None
    ) -> None:
        self.device = device
        self._handle = handle
        self._free = free

    @property
    def handle(self) -> Handle:
        """The driver's handle.

        Raises:
            ClosedError: It was freed.
        """
        if self._handle is None:
            raise ClosedError(f"this {type(self).__name__} was closed")
        return self._handle

    @property
    def closed(self) -> bool:
        """True once freed."""
        return self._handle is None

    def close(self) -> None:
        """Free it; a second call does nothing. On a lost GPU it is only forgotten."""
        with self.device.lock:
            handle, self._handle = self._handle, None
            self.device.forget(self)
        if handle is None or self._free is None or not self.device.is_ours or self.device.lost:
            return
        try:
            with self.device.active():
                self._free(handle)
        except CudaError:
            if not self.device.lost:
                raise

    def __enter__(self: Made) -> Made:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Event(Owner):
    """A point in a stream."""

    def record(self, stream: Stream) -> None:
        """Enqueue it."""
        self.device.driver.record_event(self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait until it has happened; other threads run meanwhile."""
        self.device.driver.synchronize_event(self.handle)

    def milliseconds_since(self, start: Event) -> float:
        """Return the time from ``start`` to here; both must have been made with timing."""
        return self.device.driver.elapsed_ms(start.handle, self.handle)


class Stream(Owner):
    """A queue of work, owned or adopted from another library."""

    @property
    def number(self) -> int:
        """The ``CUstream`` as an integer."""
        return self.device.driver.stream_number(self.handle)

    def __cuda_stream__(self) -> tuple[int, int]:
        """Let other libraries use this stream (version 0 of the protocol)."""
        return 0, self.number

    def wait(self, event: Event) -> None:
        """Let what is enqueued next wait for an event; returns at once."""
        self.device.driver.wait_event(self.handle, event.handle)

    def synchronize(self) -> None:
        """Wait until all that is enqueued here has ended."""
        self.device.driver.synchronize_stream(self.handle)

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """Record what ``enqueue`` puts on this stream, without running it.

        Only this thread's calls are held to the rules of capturing.

        Raises:
            CudaError: Something that cannot be captured was called, or the provider has no graphs.
        """
        driver, collects = self.device.driver, gc.isenabled()
        gc.disable()  # it may free memory of another library, which would end the capture
        try:
            driver.begin_capture(self.handle)
            enqueue()
        except BaseException as error:
            self.device.note(error)
            if not self.device.lost:
                self._abandon_capture()
            raise
        finally:
            if collects:
                gc.enable()
        return self.device.own(Graph, driver.end_capture(self.handle), driver.destroy_graph)

    def _abandon_capture(self) -> None:
        """End a failed capture, so that the stream can be used again; the first error counts."""
        try:
            self.device.driver.destroy_graph(self.device.driver.end_capture(self.handle))
        except Exception:
            pass


class Graph(Owner):
    """Captured work."""

    def launch(self, stream: Stream) -> None:
        """Enqueue it."""
        self.device.driver.launch_graph(self.handle, stream.handle)


class DeviceMemory(Owner):
    """Bytes on the device."""

    def __init__(
        self, device: Maker, handle: Handle, free: Callable[[Handle], None], size: int
    ) -> None:
        super().__init__(device, handle, free)
        self.size = size
        self._address: int | None = None

    @property
    def address(self) -> int:
        """Where it starts, for the device; the driver is asked once."""
        handle = self.handle
        if self._address is None:
            self._address = self.device.driver.address(handle)
        return self._address

    def upload(self, source: HostMemory, size: int, stream: Stream) -> None:
        """Enqueue a copy of the first bytes of pinned memory to the start of this memory."""
        self._require(size)
        source._require(size)
        self.device.driver.copy_to_device(self.address, source.handle, size, stream.handle)

    def download(self, target: HostMemory, size: int, stream: Stream) -> None:
        """Enqueue a copy of the first bytes of this memory to the start of pinned memory."""
        self._require(size)
        target._require(size)
        self.device.driver.copy_to_host(target.handle, self.address, size, stream.handle)

    def clear(self, stream: Stream, start: int = 0, size: int | None = None) -> None:
        """Enqueue setting bytes to zero: ``size`` of them from ``start`` on, or all that follow."""
        size = self.size - start if size is None else size
        self._require(start + size)
        self.device.driver.fill_zero(self.address + start, size, stream.handle)

    def _require(self, size: int) -> None:
        if size > self.size:
            raise InputError(f"part of {size} bytes, expected at most {self.size}")


class HostMemory(DeviceMemory):
    """Pinned bytes on the host; ``address`` is valid only when they are mapped."""

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """A view of the bytes; do not keep it longer than this object."""
        return self.device.driver.host_array(self.handle)


class Module(Owner):
    """Loaded kernels."""

    def __init__(self, device: Maker, handle: Handle, free: Callable[[Handle], None]) -> None:
        super().__init__(device, handle, free)
        self._kernels: list[Kernel] = []

    def kernel(self, name: str) -> Kernel:
        """Return a kernel by its unmangled name; it ends with this module."""
        kernel = Kernel(self.device, self.device.driver.function(self.handle, name))
        self._kernels.append(kernel)
        return kernel

    def close(self) -> None:
        """Unload the kernels."""
        for kernel in self._kernels:
            kernel.end()
        super().close()


class Kernel:
    """A kernel that takes one struct; lives as long as its module."""

    def __init__(self, device: Maker, handle: Handle) -> None:
        self._device = device
        self._handle = handle

    def end(self) -> None:
        """Drop the handle, since with pycuda it would keep the module loaded."""
        self._handle = None

    def launch(self, stream: Stream, shape: LaunchShape, arguments: Arguments) -> None:
        """Enqueue it with one struct.

        Raises:
            ClosedError: The module was closed.
        """
        if self._handle is None:
            raise ClosedError("the kernel's module was closed")
        self._device.driver.launch(self._handle, shape, stream.handle, arguments)
