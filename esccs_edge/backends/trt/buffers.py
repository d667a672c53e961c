"""Memory of one lane: what it owns, bytes that host and device both see, and where results are.

Everything comes from one `Allocator`, so that a lane which fails half-way, or closes, frees all.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ...contracts.manifest import Manifest
from ...cuda.owners import Device, DeviceMemory, Event, HostMemory, Owner, Stream
from ...errors import CudaError
from .memory_budget import MemoryBudget
from .pixel_kernels import STATS, aligned

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
        """Wait until nothing enqueued here runs, after an error or before memory is freed.

        Errors are logged only: after an error the first one counts, and at the end none does.
        """
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
    """Bytes that host and device both see: pinned plus a device twin, or the same when mapped.

    Attributes:
        array: The bytes, for the host.
        memory: The same for the device.
        address: Where that starts.
        is_copied: False if they are the same memory.
    """

    def __init__(self, make: Allocator, size: int, mapped: bool) -> None:
        host = make.pinned(size, mapped)
        self.array = host.array
        self.memory: DeviceMemory = host if mapped else make.memory(size)
        self.address = self.memory.address
        self.is_copied = not mapped

    def upload(self, size: int, stream: Stream) -> None:
        """Enqueue making the first ``size`` bytes visible to the device."""
        if self.is_copied:
            self.memory.upload(self.array[:size], stream)

    def download(self, stream: Stream) -> None:
        """Enqueue making all bytes visible to the host."""
        if self.is_copied:
            self.memory.download(self.array, stream)


@dataclass(frozen=True)
class Section:
    """A table that the device writes and the host reads.

    Attributes:
        memory: What it is part of.
        start: Where in it, in bytes.
        rows: The host's view, one row per sample.
    """

    memory: DeviceMemory
    start: int
    rows: npt.NDArray[Any]

    @property
    def address(self) -> int:
        """Where it starts, for the device."""
        return self.memory.address + self.start

    def clear(self, stream: Stream) -> None:
        """Enqueue zeroing it on the device."""
        self.memory.clear(stream, self.start, self.rows.nbytes)


class Results:
    """Outputs and counts of a batch in one block, so that one copy brings them back.

    Attributes:
        outputs: Name of each output of the network -> ``(max_batch, ...)`` float32.
        counts: Modality name -> `STATS` of each sample.
    """

    def __init__(
        self, make: Allocator, manifest: Manifest, max_batch: int, mapped: bool, stream: Stream
    ) -> None:
        kinds = {name: np.dtype((np.float32, t.row)) for name, t in manifest.outputs.items()}
        kinds |= {f"counts of {name}": STATS for name in manifest.modalities}
        starts = [0]
        for kind in kinds.values():
            starts.append(starts[-1] + aligned(kind.itemsize * max_batch))
        self._block = Staging(make, starts[-1], mapped)
        sections = {
            name: self._section(start, kind, max_batch)
            for start, (name, kind) in zip(starts, kinds.items(), strict=False)
        }
        self.outputs = {name: sections[name] for name in manifest.outputs}
        self.counts = {name: sections[f"counts of {name}"] for name in manifest.modalities}
        # A small batch leaves rows unwritten, and all rows are copied.
        self._block.memory.clear(stream)

    def download(self, stream: Stream) -> None:
        """Enqueue making all of them visible to the host."""
        self._block.download(stream)

    def _section(self, start: int, kind: np.dtype[Any], rows: int) -> Section:
        content = self._block.array[start : start + kind.itemsize * rows]
        view = content.view(kind.base).reshape(rows, *kind.shape)
        return Section(self._block.memory, start, view)
