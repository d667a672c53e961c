"""Memory of one lane: what it owns, bytes that host and device both see, and where results lie.

Everything comes from one `Allocator`, so that a lane which fails half-way, or closes, frees all.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .cuda.owners import Device, DeviceMemory, Event, HostMemory, Owner, Stream
from .errors import CudaError
from .manifest import Manifest
from .preprocess_gpu import STATS, aligned
from .trt_memory import MemoryBudget

Kept = TypeVar("Kept", bound=Owner)
_log = logging.getLogger("esccs_edge.tensorrt")


class Allocator:
    """Makes what a lane needs and frees all of it at once, newest first.

    Args:
        device: Where.
        budget: Counts the device memory; it may refuse some.
    """

    def __init__(self, device: Device, budget: MemoryBudget) -> None:
        self.device = device
        self._budget, self._taken = budget, 0
        self._owned: list[Owner] = []

    def stream(self) -> Stream:
        """Make a stream."""
        return self._keep(self.device.stream())

    def event(self, *, blocking: bool = True) -> Event:
        """Make an event."""
        return self._keep(self.device.event(blocking=blocking))

    def memory(self, size: int) -> DeviceMemory:
        """Allocate device memory."""
        self._take(size)
        return self._keep(self.device.memory(size))

    def pinned(self, size: int, mapped: bool) -> HostMemory:
        """Allocate pinned host memory; mapped, it is the device's too."""
        if mapped:
            self._take(size)
        return self._keep(self.device.pinned(size, mapped=mapped))

    def settle(self) -> None:
        """Wait for what is enqueued; the caller already has the error that counts."""
        for owner in self._owned:
            if isinstance(owner, Stream):
                try:
                    owner.synchronize()
                except CudaError as error:
                    _log.debug("while settling: %s", error)

    def free(self) -> None:
        """Free everything; nothing may be enqueued."""
        while self._owned:
            self._owned.pop().close()
        self._budget.give(self._taken)
        self._taken = 0

    def _take(self, size: int) -> None:
        self._budget.take(size)
        self._taken += size

    def _keep(self, owner: Kept) -> Kept:
        self._owned.append(owner)
        return owner


class Staging:
    """Bytes that host and device both see: pinned plus a device twin, or the same when mapped."""

    def __init__(self, make: Allocator, size: int, mapped: bool) -> None:
        host = make.pinned(size, mapped)
        self._memory = None if mapped else make.memory(size)
        self.array = host.array
        self.address = host.address if self._memory is None else self._memory.address

    def upload(self, size: int, stream: Stream) -> None:
        """Enqueue making the first ``size`` bytes visible to the device."""
        if self._memory is not None:
            self._memory.upload(self.array[:size], stream)

    def download(self, stream: Stream) -> None:
        """Enqueue making all bytes visible to the host."""
        if self._memory is not None:
            self._memory.download(self.array, stream)


class Results:
    """Where outputs and counts of a batch lie in one block, so that one copy brings them back."""

    def __init__(self, manifest: Manifest, max_batch: int) -> None:
        self._classes = len(manifest.classes)
        self._shapes = {
            "logits": (np.dtype(np.float32), (max_batch, self._classes)),
            "gate": (np.dtype(np.float32), (max_batch, 2)),
            "optical": (STATS, (max_batch,)),
            "sar": (STATS, (max_batch,)),
        }
        self.offsets: dict[str, int] = {}
        at = 0
        for name, (dtype, shape) in self._shapes.items():
            self.offsets[name] = at
            at += aligned(dtype.itemsize * int(np.prod(shape)))
        self.size = at

    def bytes_of(self, name: str) -> int:
        """Return the size of one section."""
        dtype, shape = self._shapes[name]
        return dtype.itemsize * int(np.prod(shape))

    def view(self, block: npt.NDArray[np.uint8], name: str) -> npt.NDArray[Any]:
        """Return one section of a block as an array."""
        dtype, shape = self._shapes[name]
        start = self.offsets[name]
        return block[start : start + self.bytes_of(name)].view(dtype).reshape(shape)
