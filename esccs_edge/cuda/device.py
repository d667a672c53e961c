"""A GPU of this process: its context, what it made, and when nothing on it can be trusted any more.

A `Device` outlives all it made; what is still open when it closes is closed first, newest first.
Nothing here waits for the whole device. Once an error leaves the GPU undefined, the driver is told
nothing more: owners are only forgotten, since the driver frees all when the process ends.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from ..errors import ClosedError, CudaError, ForkedProcessError, Remedy
from .driver import Driver, open_driver
from .owners import DeviceMemory, Event, HostMemory, Made, Maker, Module, Owner, Stream

# Values of CUdevice_attribute in cuda.h.
_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76
_TRAITS = {
    "multiprocessors": 16, "ecc": 32, "memory_bus_bits": 37, "l2_bytes": 38,
    "shared_bytes_multiprocessor": 81, "shared_bytes_block": 97,
}  # fmt: skip

#: One entry for each fork between this process and the one that imported this.
_FORKS: list[None] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _FORKS.append(None))


class Active:
    """What `Device.active` returns; a generator would take as long as a call of the driver."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def __enter__(self) -> None:
        device = self._device
        if device._closed or device.lost or device._forks != len(_FORKS):
            device._refuse()
        try:
            device.driver.push()
        except CudaError as error:
            device.note(error)
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        device = self._device
        if error is not None:
            device.note(error)
        try:
            device.driver.pop()
        except CudaError as failure:
            if device.lost:  # popped only so that this thread's contexts stay in order
                return
            device.note(failure)
            raise


class Device:
    """One GPU through its primary context, which other libraries in the process share.

    Every method, and every method of what it makes, must be called inside ``with active():``,
    except ``close``.

    Attributes:
        ordinal: Its number among the GPUs that the driver shows.
        lost: Why nothing on this GPU can be trusted any more in this process; empty if all is well.
    """

    def __init__(self, driver: Driver, ordinal: int = 0) -> None:
        self.driver = driver
        self.ordinal = ordinal
        self.lost = ""
        self.lock = threading.RLock()
        self._owned: list[Owner] = []
        self._forks = len(_FORKS)
        self._closed = False
        self._active = Active(self)

    @classmethod
    def open(cls, ordinal: int = 0) -> Device:
        """Open a GPU; see `open_driver` for the errors."""
        return cls(open_driver(ordinal), ordinal)

    def active(self) -> Active:
        """Make the context current on this thread while the result is entered; may be nested.

        Entering it raises:
            ClosedError: The device was closed.
            ForkedProcessError: This is a child of the process that opened it.
            CudaError: The GPU was lost; the driver is not asked.
        """
        return self._active

    def note(self, error: BaseException) -> None:
        """Remember an error after which nothing here can be trusted. `active` does so by itself.

        It is for errors that are caught inside of it.
        """
        if isinstance(error, CudaError) and error.action is Remedy.RESTART:
            self.lose(error.message)

    def lose(self, reason: str) -> None:
        """Give the GPU up for this process; the first reason counts."""
        self.lost = self.lost or reason

    def _refuse(self) -> None:
        if not self.is_ours:
            raise ForkedProcessError(
                "CUDA cannot be used in a forked child", hint="Start workers with spawn"
            )
        if self._closed:
            raise ClosedError("the CUDA device was closed")
        self.require()

    def require(self) -> None:
        """Refuse to go on with a lost GPU.

        Raises:
            CudaError: With `lost` and the remedy.
        """
        if self.lost:
            raise CudaError(
                f"nothing is run on this GPU any more, since earlier {self.lost}",
                hint="Restart the process",
                action=Remedy.RESTART,
            )

    @property
    def is_ours(self) -> bool:
        """False in a forked child, which must free nothing: it all belongs to the parent."""
        return self._forks == len(_FORKS)

    @property
    def name(self) -> str:
        """Name of the GPU."""
        return self.driver.device_name()

    @property
    def compute_capability(self) -> str:
        """Such as ``"8.7"``."""
        return f"{self.driver.attribute(_MAJOR)}.{self.driver.attribute(_MINOR)}"

    @property
    def integrated(self) -> bool:
        """True if host and device share their memory (Jetson)."""
        return bool(self.driver.attribute(_INTEGRATED))

    def traits(self) -> dict[str, int]:
        """Return what tells GPUs of one name apart, and what compiled code was tuned to."""
        found = {name: self.driver.attribute(number) for name, number in _TRAITS.items()}
        return {**found, "memory_bytes": self.driver.memory_info()[1]}

    def free_bytes(self) -> int:
        """Return the free device memory."""
        return self.driver.memory_info()[0]

    def stream(self) -> Stream:
        """Make a stream that does not wait for the default one."""
        return self.own(Stream, self.driver.create_stream(), self.driver.destroy_stream)

    def adopt(self, stream: Any) -> Stream:
        """Borrow a stream of another library; it is not destroyed here."""
        return Stream(self, self.driver.adopt_stream(stream), None)

    def adopt_event(self, event: Any) -> Event:
        """Borrow an event of another library; it is neither recorded nor destroyed here."""
        return Event(self, self.driver.adopt_event(event), None)

    def event(self, *, timing: bool = False, blocking: bool = True) -> Event:
        """Make an event; see `Driver.create_event` for what waiting on it does."""
        handle = self.driver.create_event(timing, blocking)
        return self.own(Event, handle, self.driver.destroy_event)

    def memory(self, size: int) -> DeviceMemory:
        """Allocate device memory."""
        return self.own(DeviceMemory, self.driver.alloc(size), self.driver.free, size)

    def pinned(self, size: int, *, mapped: bool = False) -> HostMemory:
        """Allocate pinned host memory; mapped memory can be read and written by kernels."""
        handle = self.driver.alloc_host(size, mapped)
        return self.own(HostMemory, handle, self.driver.free_host, size)

    def module(self, image: bytes) -> Module:
        """Load kernels from a fatbin."""
        return self.own(Module, self.driver.load_module(image), self.driver.unload_module)

    def own(self, kind: type[Made], *arguments: Any) -> Made:
        """Make an owner and remember it, so that it is freed before the device."""
        made = kind(self, *arguments)
        with self.lock:
            self._owned.append(made)
        return made

    def forget(self, owner: Owner) -> None:
        """Stop remembering an owner that frees itself."""
        if owner in self._owned:
            self._owned.remove(owner)

    def close(self) -> None:
        """Close what is still open, newest first, then release the context. Idempotent.

        Nothing is released, and nothing raised, once the GPU is `lost`.

        Raises:
            CudaError: The first thing that could not be freed; the rest was still tried.
        """
        if self._closed or not self.is_ours:
            return
        errors = FirstError(self)
        for owner in reversed(list(self._owned)):
            with errors:
                owner.close()
        self._closed = True
        if not self.lost:
            with errors:
                self.driver.release()
        errors.throw()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FirstError:
    """The first error while several things are closed, of which each is tried: ``with errors:``.

    Args:
        device: Once it is lost, there is no error: nothing can be closed any more.
    """

    def __init__(self, device: Maker) -> None:
        self._device = device
        self._error: Exception | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._device.note(error)
        self._error = self._error or error
        return True

    def throw(self) -> None:
        """Raise it, if there is one."""
        if self._error is not None and not self._device.lost:
            raise self._error
