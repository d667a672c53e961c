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
from ...cuda.device import Device, FirstError
from ...cuda.owners import DeviceMemory, Event, HostMemory, Owner, Stream
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

    def settle(self) -> Exception | None:
        """Wait until nothing enqueued here runs, after an error or before memory is freed.

        Returns:
            Why it is not known whether something still runs; None if nothing does.
        """
        failed: Exception | None = None
        for owner in self._owned:
            if isinstance(owner, Stream) and not self.device.lost:
                try:
                    owner.synchronize()
                except Exception as error:  # also a binding's that does not know the driver's code
                    _log.debug("while settling: %s", error)
                    self.device.note(error)
                    failed = failed or error
        return failed

    def free(self) -> None:
        """Free everything; nothing may be enqueued.

        Raises:
            CudaError: The first thing that could not be freed; the rest was still tried.
        """
        errors = FirstError(self.device)
        while self._owned:
            with errors:
                self._owned.pop().close()
        self._budget.give(self._taken)
        self._taken = 0
        errors.throw()

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
        self._host = make.pinned(size, mapped)
        self.array = self._host.array
        self.memory: DeviceMemory = self._host if mapped else make.memory(size)
        self.address = self.memory.address
        self.is_copied = not mapped

    def upload(self, size: int, stream: Stream) -> None:
        """Enqueue making the first ``size`` bytes visible to the device."""
        if self.is_copied:
            self.memory.upload(self._host, size, stream)

    def download(self, size: int, stream: Stream) -> None:
        """Enqueue making the first ``size`` bytes visible to the host."""
        if self.is_copied:
            self.memory.download(self._host, size, stream)


@dataclass(frozen=True)
class ResultRows:
    """Where the results of a batch are, one after the other, so that one copy brings them back.

    Attributes:
        size: Bytes of all of them.
        addresses: Name of each tensor of `Manifest.returned` -> where the engine writes it.
        outputs: The same for the host, ``(rows, ...)``.
        stats_addresses: Where the kernel writes `STATS` of each modality.
        stats: Modality name -> the same for the host.
    """

    size: int
    addresses: dict[str, int]
    outputs: dict[str, npt.NDArray[Any]]
    stats_addresses: list[int]
    stats: dict[str, npt.NDArray[Any]]


class Results:
    """Outputs and counts of a batch in one block.

    Args:
        make: Allocates it.
        manifest: Names the tensors.
        max_batch: Most rows.
        mapped: Host memory is device memory.
    """

    def __init__(self, make: Allocator, manifest: Manifest, max_batch: int, mapped: bool) -> None:
        self._returned, self._modalities = list(manifest.returned), list(manifest.modalities)
        self._kinds = [np.dtype((t.dtype, t.row)) for t in manifest.returned.values()]
        self._kinds += [STATS for _ in self._modalities]
        size = sum(aligned(kind.itemsize * max_batch) for kind in self._kinds)
        self._block = Staging(make, size, mapped)
        self._known: dict[int, ResultRows] = {}

    def of(self, rows: int) -> ResultRows:
        """Return where a batch of ``rows`` has its results."""
        if rows not in self._known:
            self._known[rows] = self._laid_out(rows)
        return self._known[rows]

    def download(self, rows: int, stream: Stream) -> None:
        """Enqueue making the results of a batch visible to the host."""
        self._block.download(self.of(rows).size, stream)

    def _laid_out(self, rows: int) -> ResultRows:
        starts, views, end = [], [], 0
        for kind in self._kinds:
            size = kind.itemsize * rows
            content = self._block.array[end : end + size]
            starts.append(self._block.address + end)
            views.append(content.view(kind.base).reshape(rows, *kind.shape))
            end += aligned(size)
        outputs = len(self._returned)
        return ResultRows(
            end,
            dict(zip(self._returned, starts, strict=False)),
            dict(zip(self._returned, views, strict=False)),
            starts[outputs:],
            dict(zip(self._modalities, views[outputs:], strict=True)),
        )
