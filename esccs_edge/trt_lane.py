"""One lane on the GPU: both branches, the execution contexts and the graphs that carry one batch.

Raw pixels in pinned memory -> copies on the optical and the SAR stream -> the fused preprocessing
kernel on each -> events -> TensorRT on the compute stream -> logits, gate and counts back -> event.
`start` only enqueues; `finish` waits for that last event and for nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from .backend import Lane, LaneOutput
from .cuda.owners import Device, Graph, Kernel
from .errors import BackendError, ClosedError
from .manifest import Manifest
from .preprocess_gpu import aligned, availability_parameters
from .scene import ScenePair
from .trt_api import LoadedEngine, error_log, trt_error
from .trt_branch import Branch
from .trt_buffers import Allocator, Results, Staging
from .trt_memory import MemoryBudget

_AVAILABILITY_BLOCK = 128
_log = logging.getLogger("esccs_edge.tensorrt")


@dataclass(frozen=True)
class LaneOptions:
    """What all lanes of a backend share.

    Attributes:
        max_batch: Most pairs in a batch.
        sar_is_linear: SAR pixels are linear sigma0.
        graph_batches: Batch sizes that are captured as a CUDA graph once they have run.
        mapped: Host memory is device memory, so nothing is copied (integrated GPUs).
        budget: Counts the device memory of all lanes.
        wait: ``"block"`` lets the thread that waits for a batch sleep, ``"spin"`` keeps it busy.
    """

    max_batch: int
    sar_is_linear: bool
    graph_batches: frozenset[int]
    mapped: bool
    budget: MemoryBudget
    wait: str


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
        self._make = Allocator(device, options.budget)
        try:
            self._allocate(manifest, loaded)
        except BaseException:
            self.close()
            raise

    def _allocate(self, manifest: Manifest, loaded: LoadedEngine) -> None:
        make, options = self._make, self._options
        self.compute = make.stream()
        self._fork, self._done = make.event(), make.event(blocking=options.wait == "block")
        self._aux = [make.stream() for _ in range(loaded.engine.num_aux_streams)]
        shared: dict[str, Any] = {"max_batch": options.max_batch, "mapped": options.mapped}
        self._optical = Branch(make, manifest.optical, self._pixels, **shared)
        self._sar = Branch(
            make, manifest.sar, self._pixels, linear_to_db=options.sar_is_linear, **shared
        )
        self._availability = make.memory(aligned(options.max_batch * 8))
        self._activations = make.memory(aligned(max(1, loaded.activation_bytes)))
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
        with self._device.active(), self._trusted():
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
        with self._device.active(), self._trusted():
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

    @contextmanager
    def _trusted(self) -> Iterator[None]:
        """Refuse every lane's work after an error that leaves GPU or TensorRT undefined."""
        if self._loaded.lost:
            raise BackendError(
                f"nothing is run any more, since earlier {self._loaded.lost}",
                hint="Restart the process",
                action="restart",
            )
        try:
            yield
        except BackendError as error:
            if error.action == "restart":
                self._loaded.lost = error.message
            raise

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
        context = self._loaded.new_context()
        if context is None:
            error = trt_error("Making an execution context", self._loaded.errors, running=True)
            raise BackendError(
                error.message, hint="Use fewer lanes or a smaller max_batch", action="smaller-batch"
            )
        context.error_recorder = self._errors
        # All contexts of a lane share it: only one of them runs at a time.
        context.set_device_memory(self._activations.address, self._activations.size)
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
