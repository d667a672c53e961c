"""From raw pixels to network input: copy, then preprocessing kernel, on a stream of its own.

Each modality has a `ModalityUpload`, so that copies and kernels of different ones can overlap. What
the kernels counted in all of them becomes one more input, by `Availability`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...contracts.modality import ModalitySpec
from ...contracts.types import Pixels
from ...contracts.values import DevicePixels, PixelStats
from ...cuda.driver import Arguments, LaunchShape
from ...cuda.owners import Kernel, Stream
from ...pixels.preprocess import channel_factors
from .buffers import Allocator, Section, Staging
from .pixel_kernels import (
    RawLayout,
    aligned,
    availability_parameters,
    launch_of,
    parameters,
    read_stats,
)

_AVAILABILITY_BLOCK = 128


class ModalityUpload:
    """One modality of a lane: `fill`, `upload`, `preprocess`, later `read`.

    Args:
        make: Allocates what it needs.
        kernel: ``esccs_preprocess_f32``.
        spec: The modality.
        pixels: Pixels per channel.
        counts: Where the kernel counts what it sees.
        max_batch: Most patches at once.
        mapped: Host memory is device memory, so nothing is copied.
    """

    def __init__(
        self,
        make: Allocator,
        kernel: Kernel,
        spec: ModalitySpec,
        pixels: int,
        counts: Section,
        *,
        max_batch: int,
        mapped: bool,
    ) -> None:
        self._channels, self._pixels = len(spec.channels), pixels
        self._layout = RawLayout(max_batch, self._channels, pixels)
        self._present: list[bool] = []
        self.producers: set[int] = set()
        self.stream, self.ready = make.stream(), make.event()
        self._raw = Staging(make, self._layout.capacity, mapped)
        self._used = 0
        self.input = make.memory(aligned(max_batch * self._channels * pixels * 4))
        self._kernel, self._counts = kernel, counts
        self._shapes = [launch_of(self._channels, pixels, batch) for batch in range(max_batch + 1)]
        table = np.stack(channel_factors(spec))
        staged = Staging(make, table.nbytes, mapped)
        staged.array[:] = table.reshape(-1).view(np.uint8)
        staged.upload(table.nbytes, self.stream)
        self._arguments = Arguments(
            parameters(
                spec,
                pixels,
                raw=self._raw.address,
                out=self.input.address,
                stats=counts.address,
                factors=staged.address,
            )
        )

    def fill(self, images: Sequence[Pixels | None]) -> int:
        """Gather a batch in the pinned buffer; returns the bytes that `upload` will copy.

        Pixels on the device stay where they are; ``producers`` are the streams they are made on.
        """
        self._present = [image is not None for image in images]
        on_device = [image.stream for image in images if isinstance(image, DevicePixels)]
        self.producers = {stream for stream in on_device if stream is not None}
        self._used = self._layout.fill(self._raw.array, images, self._raw.address)
        return self._used if self._raw.is_copied else 0

    def upload(self) -> None:
        """Enqueue the copy of what `fill` gathered."""
        self._raw.upload(self._used, self.stream)

    def preprocess(self, batch: int) -> None:
        """Enqueue zeroing the counts and the kernel, then the event that the input is ready."""
        self._counts.clear(self.stream)
        self._kernel.launch(self.stream, self._shapes[batch], self._arguments)
        self.ready.record(self.stream)

    def read(self) -> list[PixelStats]:
        """Return what the kernel saw in the batch that was filled in last."""
        rows = self._counts.rows[: len(self._present)]
        return read_stats(rows, self._present, self._channels, self._pixels)


class Availability:
    """The share of valid pixels of each sample and modality, which the network reads.

    Args:
        make: Allocates what it needs.
        kernel: ``esccs_availability``.
        counts: Where the preprocessing kernels count, in the order of the modalities.
        pixels: Pixels per channel.
        max_batch: Most samples at once.

    Attributes:
        input: ``(max_batch, modalities)`` float32.
    """

    def __init__(
        self,
        make: Allocator,
        kernel: Kernel,
        counts: Sequence[Section],
        pixels: int,
        max_batch: int,
    ) -> None:
        self._kernel = kernel
        self.input = make.memory(aligned(max_batch * len(counts) * 4))
        addresses = [section.address for section in counts]
        self._arguments = Arguments(availability_parameters(addresses, self.input.address, pixels))

    def enqueue(self, batch: int, stream: Stream) -> None:
        """Enqueue the kernel; the counts of all modalities must be there before."""
        self._arguments.struct["batch"] = batch
        blocks = -(-batch // _AVAILABILITY_BLOCK)
        self._kernel.launch(stream, LaunchShape((blocks, 1), _AVAILABILITY_BLOCK), self._arguments)
