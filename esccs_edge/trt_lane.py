"""One lane on the GPU: the buffers, streams and execution contexts that carry one batch.

Raw pixels in pinned memory -> copies on the optical and the SAR stream -> the fused preprocessing
kernel on each -> events -> TensorRT on the compute stream -> logits, gate and counts back -> event.
`start` only enqueues; `finish` waits for that last event and for nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .backend import Lane, LaneOutput
from .cuda.owners import (
    Device,
    DeviceMemory,
    Event,
    Graph,
    HostMemory,
    Kernel,
    Owner,
    Stream,
)
from .errors import BackendError, ClosedError, CudaError
from .manifest import Manifest, ModalitySpec
from .preprocess_gpu import (
    STATS,
    RawLayout,
    aligned,
    availability_parameters,
    launch_of,
    parameters,
    read_stats,
    statistics,
)
from .scene import PixelStats, ScenePair
from .trt_api import LoadedEngine, error_log, trt_error

_AVAILABILITY_BLOCK = 128
Kept = TypeVar("Kept", bound=Owner)
_log = logging.getLogger("esccs_edge.tensorrt")


@dataclass(frozen=True)
class LaneOptions:
    """What all lanes of a backend share.

    Attributes:
        max_batch: Most pairs in a batch.
        sar_is_linear: SAR pixels are linear sigma0.
        graph_batches: Batch sizes that are captured as a CUDA graph once they have run.
        mapped: Host memory is device memory, so nothing is copied (integrated GPUs).
    """

    max_batch: int
    sar_is_linear: bool
    graph_batches: frozenset[int]
    mapped: bool


class Allocator:
    """Makes what a lane needs and frees all of it at once, newest first."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._owned: list[Owner] = []

    def stream(self) -> Stream:
        """Make a stream."""
        return self._keep(self.device.stream())

    def event(self) -> Event:
        """Make an event."""
        return self._keep(self.device.event())

    def memory(self, size: int) -> DeviceMemory:
        """Allocate device memory."""
        return self._keep(self.device.memory(size))

    def pinned(self, size: int, mapped: bool) -> HostMemory:
        """Allocate pinned host memory."""
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


class Branch:
    """One modality of a lane: its stream, its raw pixels and its network input."""

    def __init__(
        self, make: Allocator, spec: ModalitySpec, pixels: int, options: LaneOptions, to_db: bool
    ) -> None:
        channels = len(spec.channels)
        self.layout = RawLayout(options.max_batch, channels, pixels)
        self.present: list[bool] = []
        self.stream = make.stream()
        self.uploaded, self.ready = make.event(), make.event()
        self.raw = Staging(make, self.layout.capacity, options.mapped)
        self.input = make.memory(aligned(options.max_batch * channels * pixels * 4))
        table = statistics(spec)
        self._statistics = Staging(make, table.nbytes, options.mapped)
        self._statistics.array[:] = table.reshape(-1).view(np.uint8)
        self._statistics.upload(table.nbytes, self.stream)
        self._launch = launch_of(channels, pixels)
        self._spec, self._to_db, self._pixels = spec, to_db, pixels

    def upload(self, images: Sequence[npt.NDArray[Any] | None]) -> None:
        """Fill the pinned buffer and enqueue its copy."""
        self.present = [image is not None for image in images]
        used = self.layout.fill(self.raw.array, images)
        self.raw.upload(used, self.stream)
        self.uploaded.record(self.stream)

    def enqueue(self, kernel: Kernel, batch: int, stats: int, stats_bytes: int) -> None:
        """Enqueue zeroing the counts and the kernel, then the event that the input is ready."""
        values = parameters(
            self._spec,
            self._pixels,
            raw=self.raw.address,
            out=self.input.address,
            stats=stats,
            statistics=self._statistics.address,
            linear_to_db=self._to_db,
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


class TrtLane(Lane):
    """See the module; made by `TrtBackend.open_lane`, with the device active."""

    def __init__(
        self,
        device: Device,
        loaded: LoadedEngine,
        kernels: tuple[Kernel, Kernel],
        manifest: Manifest,
        options: LaneOptions,
    ) -> None:
        self._device, self._loaded, self._options = device, loaded, options
        self._preprocess, self._count_shares = kernels
        self._pixels = manifest.patch_size**2
        self._errors = error_log(loaded.flavor)
        self._shapes = {name: shape[1:] for name, shape in manifest.inputs.items()}
        self._results = Results(manifest, options.max_batch)
        self._contexts: dict[int, Any] = {}
        self._bound: dict[int, int] = {}
        self._graphs: dict[int, Graph | None] = {}
        self._batch = 0
        self._closed = False
        self._make = Allocator(device)
        try:
            self._allocate(manifest, loaded.engine.num_aux_streams)
        except BaseException:
            self.close()
            raise

    def _allocate(self, manifest: Manifest, aux_streams: int) -> None:
        make, options = self._make, self._options
        self.compute = make.stream()
        self._fork, self._done = make.event(), make.event()
        self._aux = [make.stream() for _ in range(aux_streams)]
        self._optical = Branch(make, manifest.optical, self._pixels, options, False)
        self._sar = Branch(make, manifest.sar, self._pixels, options, options.sar_is_linear)
        self._availability = make.memory(aligned(options.max_batch * 8))
        self._staged = Staging(make, self._results.size, options.mapped)

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def start(self, batch: Sequence[ScenePair]) -> None:
        """Copy the pixels into pinned memory and enqueue everything else."""
        if self._closed:
            raise ClosedError("the lane was closed")
        if self._batch or not 1 <= len(batch) <= self._options.max_batch:
            raise BackendError(
                f"{len(batch)} pairs were started with {self._batch} in flight, "
                f"expected 1..{self._options.max_batch} with none"
            )
        with self._device.active():
            try:
                self._optical.upload([pair.optical for pair in batch])
                self._sar.upload([pair.sar for pair in batch])
                self._run(len(batch))
                self._done.record(self.compute)
            except BackendError:
                self._make.settle()
                raise
        self._batch = len(batch)

    def finish(self) -> LaneOutput:
        """Wait for the batch's last event and copy its results out of pinned memory."""
        batch, self._batch = self._batch, 0
        if not batch:
            raise BackendError("no batch was started on this lane")
        with self._device.active():
            self._done.synchronize()
            block = self._staged.array
            return LaneOutput(
                self._results.view(block, "logits")[:batch].copy(),
                self._results.view(block, "gate")[:batch].copy(),
                self._optical.read(self._results.view(block, "optical")),
                self._sar.read(self._results.view(block, "sar")),
            )

    def close(self) -> None:
        """Let running work end, then free contexts, graphs and memory, newest first."""
        if self._closed or not self._device.is_ours:
            return
        self._closed = True
        with self._device.active():
            self._make.settle()
            for graph in self._graphs.values():
                if graph is not None:
                    graph.close()
            self._contexts.clear()  # before the memory they point to
            self._make.free()

    def _run(self, batch: int) -> None:
        """Launch the graph of this batch size, or enqueue plainly (and capture from the second)."""
        graph = self._graphs.get(batch)
        if graph is None and batch in self._graphs:
            graph = self._capture(batch)
        if graph is None:
            self._enqueue(batch)
            if batch in self._options.graph_batches:
                self._graphs.setdefault(batch, None)
            return
        self.compute.wait(self._optical.uploaded)
        self.compute.wait(self._sar.uploaded)
        graph.launch(self.compute)

    def _enqueue(self, batch: int) -> None:
        context = self._context(batch)
        for branch, name in ((self._optical, "optical"), (self._sar, "sar")):
            stats = self._staged.address + self._results.offsets[name]
            branch.enqueue(self._preprocess, batch, stats, self._results.bytes_of(name))
            self.compute.wait(branch.ready)
        self._count_shares.launch(
            self.compute,
            (-(-batch // _AVAILABILITY_BLOCK), 1),
            _AVAILABILITY_BLOCK,
            availability_parameters(
                self._staged.address + self._results.offsets["optical"],
                self._staged.address + self._results.offsets["sar"],
                self._availability.address,
                self._pixels,
                batch,
            ),
        )
        if not context.execute_async_v3(self.compute.number):
            raise trt_error("Running the engine", self._errors, running=True)
        self._staged.download(self.compute)

    def _capture(self, batch: int) -> Graph | None:
        """Record what `_enqueue` does; if that cannot be, say so once and go on without."""
        context = self._context(batch)
        try:
            if not getattr(context, "is_stream_capturable", lambda _: True)(self.compute.number):
                raise BackendError("TensorRT says that this engine cannot be captured")
            graph = self.compute.capture(lambda: self._forked(batch))
        except BackendError as error:
            if error.action == "restart":
                raise
            _log.warning("No CUDA graph for batches of %d, enqueued plainly: %s", batch, error)
            self._graphs.pop(batch)
            self._options = _without_graph(self._options, batch)
            return None
        self._graphs[batch] = graph
        return graph

    def _forked(self, batch: int) -> None:
        """Bring both branches' streams into the capture of the compute stream."""
        self._fork.record(self.compute)
        self._optical.stream.wait(self._fork)
        self._sar.stream.wait(self._fork)
        self._enqueue(batch)

    def _context(self, batch: int) -> Any:
        """Return the execution context for a batch size; a graph needs one of its own."""
        slot = batch if batch in self._options.graph_batches else 0
        if slot not in self._contexts:
            self._contexts[slot] = self._new_context()
        context = self._contexts[slot]
        if self._bound.get(slot) != batch:
            for name, shape in self._shapes.items():
                self._require(context.set_input_shape(name, (batch, *shape)), f"shape of {name}")
            self._bound[slot] = batch
        return context

    def _new_context(self) -> Any:
        context = self._loaded.engine.create_execution_context()
        if context is None:
            error = trt_error("Making an execution context", self._loaded.errors, running=True)
            raise BackendError(
                error.message, hint="Use fewer lanes or a smaller max_batch", action="smaller-batch"
            )
        context.error_recorder = self._errors
        for name, address in self._addresses().items():
            self._require(context.set_tensor_address(name, address), f"address of {name}")
        if self._aux:
            context.set_aux_streams([stream.number for stream in self._aux])
        return context

    def _addresses(self) -> dict[str, int]:
        return {
            "optical": self._optical.input.address,
            "sar": self._sar.input.address,
            "availability": self._availability.address,
            "logits": self._staged.address + self._results.offsets["logits"],
            "gate": self._staged.address + self._results.offsets["gate"],
        }

    def _require(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise trt_error(f"Setting the {what}", self._errors, running=True)


def _without_graph(options: LaneOptions, batch: int) -> LaneOptions:
    return replace(options, graph_batches=options.graph_batches - {batch})
