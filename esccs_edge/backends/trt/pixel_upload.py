"""From raw pixels to network input: one copy and one kernel for all modalities of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from ...contracts.manifest import Manifest
from ...contracts.types import Pixels
from ...contracts.values import DevicePixels, PixelStats, Sample
from ...cuda.driver import Arguments, LaunchShape
from ...cuda.owners import Kernel, Stream
from ...cuda.pointers import PointerCheck
from .buffers import Allocator, ResultRows, Staging
from .pixel_kernels import (
    STATS,
    RawLayout,
    aligned,
    block_of,
    parameters,
    read_stats,
    tiles_of,
)


class Filled(NamedTuple):
    """How a batch that was gathered has to be enqueued.

    Attributes:
        rows: Rows of the network's inputs; those after the samples are absent.
        tiles: Blocks that share a patch of each modality.
    """

    rows: int
    tiles: tuple[int, ...]


class PixelUpload:
    """The pixels of a lane: `fill`, `upload`, `preprocess`, later `read`.

    Args:
        make: Allocates what it needs.
        kernel: ``esccs_preprocess_f32``.
        manifest: Contract to obey.
        max_batch: Most samples at once.
        mapped: Host memory is device memory, so nothing is copied.
        stream: Where the counters are zeroed, once.

    Attributes:
        inputs: Name of each tensor that the kernel writes -> its address.
        producers: Streams on which pixels of the last batch are made.
        events: Events that pixels of the last batch wait for.
    """

    def __init__(
        self,
        make: Allocator,
        kernel: Kernel,
        manifest: Manifest,
        *,
        max_batch: int,
        mapped: bool,
        stream: Stream,
    ) -> None:
        self._specs, self._kernel, self._device = manifest.modalities, kernel, make.device
        self._pixels = math.prod(manifest.sample.grid)
        self._channels = {name: len(spec.channels) for name, spec in self._specs.items()}
        channels = list(self._channels.values())
        self._block, self._shared_bytes = block_of(max(channels))
        #: By the bytes of the widest value in a batch; 0 where no patch is there.
        self._tiles = {size: tiles_of(self._pixels, self._block, size) for size in (0, 1, 2, 4)}
        self.producers: set[Any] = set()
        self.events: set[Any] = set()
        self._sizes: list[bytes] = []  # of the values of each patch; 0 where it is absent
        self._layout = RawLayout(max_batch, tuple(channels), self._pixels)
        self._raw = Staging(make, self._layout.capacity, mapped)
        self._used = 0
        self.inputs = {
            name: make.memory(aligned(max_batch * count * self._pixels * 4)).address
            for name, count in zip(self._specs, channels, strict=True)
        }
        shares = make.memory(aligned(max_batch * len(channels) * 4)).address
        counters = Counters(make, len(channels), max_batch, stream)
        self._arguments = Arguments(
            parameters(
                list(self._specs.values()),
                self._pixels,
                raw=self._raw.address,
                out=list(self.inputs.values()),
                counts=counters.counts,
                done=counters.done,
                availability=shares,
            )
        )
        for tensor in manifest.inputs.values():
            if tensor.role == "availability":
                self.inputs[tensor.name] = shares
        self._set, self._shape = Filled(0, ()), LaunchShape((0, 0), 0)  # how the kernel is launched

    def fill(self, batch: Sequence[Sample], rows: int) -> Filled:
        """Gather a batch in the pinned buffer, and absent samples up to ``rows``.

        Pixels on the device stay where they are; ``producers`` and ``events`` are to be waited for.

        Raises:
            InputError: Such pixels are not memory that this GPU can read.
        """
        modalities = [[sample.pixels[name] for sample in batch] for name in self._specs]
        layout, raw = self._layout, self._raw
        on_device = DevicePixels in set(map(type, chain(*modalities)))
        if on_device or self.producers or self.events:
            self._look_at_device_pixels(modalities)
        if on_device:
            gathered = layout.fill_mixed(raw.array, modalities, rows, raw.address)
        else:
            gathered = layout.fill(raw.array, modalities, rows)
        self._used, self._sizes = gathered
        return Filled(rows, tuple([self._tiles[max(sizes)] for sizes in self._sizes]))

    def _look_at_device_pixels(self, modalities: Sequence[Sequence[Pixels | None]]) -> None:
        """Refuse what a kernel must not be sent to read; note what is to be waited for."""
        there: list[DevicePixels] = []
        for name, images in zip(self._specs, modalities, strict=True):
            mine = [image for image in images if isinstance(image, DevicePixels)]
            self._require_readable(mine, name)
            there += mine
        self.producers = {image.stream for image in there if image.stream is not None}
        self.events = {image.event for image in there if image.event is not None}

    def _require_readable(self, images: Sequence[DevicePixels], name: str) -> None:
        """Refuse pixels of another GPU, or freed ones, before a kernel is sent to read them."""
        check = PointerCheck(self._device.driver.pointer, self._device.ordinal)
        for image in images:
            check.require(image.address, math.prod(image.shape) * image.dtype.itemsize, name)

    def upload(self, stream: Stream) -> None:
        """Enqueue the copy of what `fill` gathered."""
        self._raw.upload(self._used, stream)

    def preprocess(self, filled: Filled, results: ResultRows, stream: Stream) -> None:
        """Enqueue the kernel, which writes the network's inputs and what it counted."""
        rows, tiles = filled
        if filled != self._set:
            values = self._arguments.struct["of"]
            values["tiles"][: len(tiles)] = tiles
            values["settled"][: len(tiles)] = results.stats_addresses
            self._shape = LaunchShape((sum(tiles), rows), self._block, self._shared_bytes)
            self._set = filled
        self._kernel.launch(stream, self._shape, self._arguments)

    def read(self, results: ResultRows) -> dict[str, list[PixelStats]]:
        """Return what the kernel saw in the batch that was filled in last."""
        return {
            name: read_stats(results.stats[name], sizes, channels, self._pixels)
            for (name, channels), sizes in zip(self._channels.items(), self._sizes, strict=True)
        }


class Counters:
    """What the kernel counts in: device memory, since an integrated GPU does not cache the host's.

    Zero between batches, which the kernel sees to; so it is cleared only once.

    Args:
        make: Allocates it.
        modalities: How many are counted.
        max_batch: Most samples at once.
        stream: Where it is cleared.

    Attributes:
        counts: Address of the `STATS` of each modality.
        done: Address of how many warps of each sample have counted.
    """

    def __init__(self, make: Allocator, modalities: int, max_batch: int, stream: Stream) -> None:
        part = aligned(max_batch * STATS.itemsize)
        memory = make.memory(modalities * part + aligned(max_batch * 4))
        memory.clear(stream)
        self.counts = [memory.address + number * part for number in range(modalities)]
        self.done = memory.address + modalities * part
