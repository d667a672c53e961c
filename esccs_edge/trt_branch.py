"""One modality's way to the network: raw pixels -> copy -> preprocessing kernel, on its own stream.

Optical and SAR each have a `Branch`, so that their copies and kernels can overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .cuda.owners import Kernel
from .manifest import ModalitySpec
from .preprocess_gpu import RawLayout, aligned, launch_of, parameters, read_stats, statistics
from .scene import DevicePixels, Pixels, PixelStats
from .trt_buffers import Allocator, Staging


class Branch:
    """The way of one modality through a lane.

    Args:
        make: Allocates what it needs.
        spec: The modality.
        pixels: Pixels per channel.
        max_batch: Most patches at once.
        mapped: Host memory is device memory, so nothing is copied.
        linear_to_db: Pixels are linear sigma0.
    """

    def __init__(
        self,
        make: Allocator,
        spec: ModalitySpec,
        pixels: int,
        *,
        max_batch: int,
        mapped: bool,
        linear_to_db: bool = False,
    ) -> None:
        channels = len(spec.channels)
        self.layout = RawLayout(max_batch, channels, pixels)
        self.present: list[bool] = []
        self.stream = make.stream()
        self.uploaded, self.ready = make.event(), make.event()
        self._produced = make.event()
        self.raw = Staging(make, self.layout.capacity, mapped)
        self.input = make.memory(aligned(max_batch * channels * pixels * 4))
        table = statistics(spec)
        self._statistics = Staging(make, table.nbytes, mapped)
        self._statistics.array[:] = table.reshape(-1).view(np.uint8)
        self._statistics.upload(table.nbytes, self.stream)
        self._launch = launch_of(channels, pixels)
        self._spec, self._linear_to_db, self._pixels = spec, linear_to_db, pixels

    def upload(self, images: Sequence[Pixels | None]) -> None:
        """Fill the pinned buffer and enqueue its copy; pixels on the device stay where they are."""
        self.present = [image is not None for image in images]
        used = self.layout.fill(self.raw.array, images, self.raw.address)
        self.raw.upload(used, self.stream)
        self._await_producers(images)
        self.uploaded.record(self.stream)

    def _await_producers(self, images: Sequence[Pixels | None]) -> None:
        """Let this stream wait for those on which device pixels are made; returns at once."""
        numbers = {image.stream for image in images if isinstance(image, DevicePixels)} - {None}
        for number in numbers:
            self._produced.record(self.stream.device.adopt(number))
            self.stream.wait(self._produced)

    def enqueue(self, kernel: Kernel, batch: int, stats: int, stats_bytes: int) -> None:
        """Enqueue zeroing the counts and the kernel, then the event that the input is ready."""
        values = parameters(
            self._spec,
            self._pixels,
            raw=self.raw.address,
            out=self.input.address,
            stats=stats,
            statistics=self._statistics.address,
            linear_to_db=self._linear_to_db,
        )
        driver = self.stream.device.driver
        driver.fill_zero(stats, stats_bytes, self.stream.handle)
        grid = (self._launch.tiles, batch)
        shared = self._launch.shared_bytes
        kernel.launch(self.stream, grid, self._launch.block, values, shared_bytes=shared)
        self.ready.record(self.stream)

    def read(self, rows: npt.NDArray[Any]) -> list[PixelStats]:
        """Return what the kernel saw in the batch uploaded last."""
        channels = len(self._spec.channels)
        return read_stats(rows[: len(self.present)], self.present, channels, self._pixels)
