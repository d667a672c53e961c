"""One lane on the GPU: both branches, the execution contexts and the graphs that carry one batch.

Raw pixels in pinned memory -> copies on the optical and the SAR stream -> the fused preprocessing
kernel on each -> events -> TensorRT on the compute stream -> logits, gate and counts back -> event.
All from the copies to the counts is one CUDA graph where it can be. `start` only gathers the pixels
and enqueues; `finish` waits for that last event and for nothing else.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...contracts.manifest import Manifest
from ...contracts.values import Sample
from ...cuda.driver import Arguments
from ...cuda.owners import Device, Graph, Kernel
from ...errors import BackendError, ClosedError, Remedy
from ..base import Lane, LaneOutput
from .buffers import Allocator, Results
from .library import LoadedEngine, error_log, trt_error
from .memory_budget import MemoryBudget
from .modality_upload import ModalityUpload
from .pixel_kernels import aligned, availability_parameters

_AVAILABILITY_BLOCK = 128
#: A graph copies so many bytes and no others: mixtures of types and absent patches each need their
#: own. Once there are so many of them, all other layouts are enqueued plainly.
_MOST_GRAPHS = 8

#: Samples, then bytes to upload of each modality.
_Layout = tuple[int, ...]
_log = logging.getLogger("esccs_edge.tensorrt")


@dataclass(frozen=True)
class LaneOptions:
    """What all lanes of a backend share.

    Attributes:
        max_batch: Most pairs in a batch.
        graph_batches: Batch sizes of which a CUDA graph is captured once they have run.
        mapped: Host memory is device memory, so nothing is copied (integrated GPUs).
        budget: Counts the device memory of all lanes.
        wait: ``"block"`` lets the thread that waits for a batch sleep, ``"spin"`` keeps it busy.
    """

    max_batch: int
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
        self._errors = error_log(loaded.flavor)
        self._shapes = {name: tensor.row for name, tensor in manifest.inputs.items()}
        self._plain: Any = None
        self._bound = 0  # batch size of the plain context
        self._graph_batches = set(options.graph_batches)
        self._graphs: dict[_Layout, Graph] = {}
        self._contexts: list[Any] = []  # of the graphs, as long as these
        self._met_once = deque[_Layout](maxlen=_MOST_GRAPHS)
        self._batch = 0
        self._closed = False
        self._make = Allocator(device, options.budget)
        try:
            self._allocate(manifest, loaded, *kernels)
        except BaseException:
            self.close()
            raise

    def _allocate(
        self, manifest: Manifest, loaded: LoadedEngine, preprocess: Kernel, count_shares: Kernel
    ) -> None:
        make, options = self._make, self._options
        grid, max_batch, mapped = manifest.sample, options.max_batch, options.mapped
        pixels = grid.height * grid.width
        self.compute = make.stream()
        self._fork, self._produced = make.event(), make.event()
        self._done = make.event(blocking=options.wait == "block")
        self._aux = [make.stream() for _ in range(loaded.engine.num_aux_streams)]
        self._results = Results(make, manifest, max_batch, mapped, self.compute)
        counts = self._results.counts
        self._uploads = {
            name: ModalityUpload(
                make, preprocess, spec, pixels, counts[name], max_batch=max_batch, mapped=mapped
            )
            for name, spec in manifest.modalities.items()
        }
        self._availability = make.memory(aligned(max_batch * len(counts) * 4))
        self._activations = make.memory(aligned(max(1, loaded.activation_bytes)))
        self._count_shares = count_shares
        self._shares = Arguments(
            availability_parameters(
                [section.address for section in counts.values()],
                self._availability.address,
                pixels,
            )
        )

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def start(self, batch: Sequence[Sample]) -> None:
        """Copy the pixels into pinned memory and enqueue everything else."""
        if self._closed:
            raise ClosedError("the lane was closed")
        if self._batch or not 1 <= len(batch) <= self._options.max_batch:
            raise BackendError(
                f"{len(batch)} samples were started with {self._batch} in flight, "
                f"expected 1..{self._options.max_batch} with none"
            )
        with self._device.active():
            self._refuse_if_lost()
            try:
                sizes = [
                    upload.fill([sample.pixels[name] for sample in batch])
                    for name, upload in self._uploads.items()
                ]
                self._await_producers()
                self._run((len(batch), *sizes))
                self._done.record(self.compute)
            except BackendError as error:
                self._make.settle()
                self._note_if_lost(error)
                raise
        self._batch = len(batch)

    def finish(self) -> LaneOutput:
        """Wait for the batch's last event and copy its results out of pinned memory."""
        batch, self._batch = self._batch, 0
        if not batch:
            raise BackendError("no batch was started on this lane")
        with self._device.active():
            self._refuse_if_lost()
            try:
                self._done.synchronize()
            except BackendError as error:
                self._note_if_lost(error)
                raise
        return LaneOutput(
            {name: part.rows[:batch].copy() for name, part in self._results.outputs.items()},
            {name: upload.read() for name, upload in self._uploads.items()},
        )

    def close(self) -> None:
        """Let running work end, then free contexts, graphs and memory, newest first."""
        if self._closed or not self._device.is_ours:
            return
        self._closed = True
        with self._device.active():
            self._make.settle()
            for graph in self._graphs.values():
                graph.close()
            self._contexts.clear()  # before the memory they point to
            self._plain = None
            self._make.free()

    def _refuse_if_lost(self) -> None:
        """Run nothing on any lane after an error that leaves GPU or TensorRT undefined."""
        if self._loaded.lost:
            raise BackendError(
                f"nothing is run any more, since earlier {self._loaded.lost}",
                hint="Restart the process",
                action=Remedy.RESTART,
            )

    def _note_if_lost(self, error: BackendError) -> None:
        if error.action is Remedy.RESTART:
            self._loaded.lost = self._loaded.lost or error.message

    def _await_producers(self) -> None:
        """Let the batch wait for the streams on which device pixels are made; returns at once."""
        for number in set[int]().union(*(one.producers for one in self._uploads.values())):
            self._produced.record(self._device.adopt(number))
            self.compute.wait(self._produced)

    def _run(self, layout: _Layout) -> None:
        """Launch the graph of this layout, or enqueue plainly (and capture the second time)."""
        batch = layout[0]
        if (graph := self._graphs.get(layout)) is not None:
            graph.launch(self.compute)
        elif layout in self._met_once and len(self._graphs) < _MOST_GRAPHS:
            self._run_and_capture(layout)
        else:
            self._enqueue(batch, self._plain_context(batch))
            if batch in self._graph_batches:
                self._met_once.append(layout)

    def _enqueue(self, batch: int, context: Any) -> None:
        """Enqueue everything; the streams of the modalities start from the compute stream."""
        self._fork.record(self.compute)
        for one in self._uploads.values():
            one.stream.wait(self._fork)
            one.upload()
        for one in self._uploads.values():
            one.preprocess(batch)
            self.compute.wait(one.ready)
        self._shares.struct["batch"] = batch
        grid = -(-batch // _AVAILABILITY_BLOCK), 1
        self._count_shares.launch(self.compute, grid, _AVAILABILITY_BLOCK, self._shares)
        if not context.execute_async_v3(self.compute.number):
            raise trt_error("Running the engine", self._errors, running=True)
        self._results.download(self.compute)

    def _run_and_capture(self, layout: _Layout) -> None:
        """Enqueue plainly on a context of the graph's own, as TensorRT asks; then record it."""
        batch = layout[0]
        try:
            context = self._new_context(batch, for_graph=True)
        except BackendError as error:
            self._do_without_graphs(batch, error)
            self._enqueue(batch, self._plain_context(batch))
            return
        self._contexts.append(context)
        self._enqueue(batch, context)
        try:
            if not getattr(context, "is_stream_capturable", lambda _: True)(self.compute.number):
                raise BackendError("TensorRT says that this engine cannot be captured")
            self._graphs[layout] = self.compute.capture(lambda: self._enqueue(batch, context))
        except BackendError as error:
            self._do_without_graphs(batch, error)

    def _do_without_graphs(self, batch: int, error: BackendError) -> None:
        """Say once why batches of this size are enqueued plainly from now on."""
        if error.action is Remedy.RESTART:
            raise error
        _log.warning("No CUDA graph for batches of %d, enqueued plainly: %s", batch, error)
        self._met_once.clear()
        self._graph_batches.discard(batch)

    def _plain_context(self, batch: int) -> Any:
        if self._plain is None:
            self._plain = self._new_context(batch)
        elif self._bound != batch:
            self._bound = 0  # should it fail half-way
            self._bind(self._plain, batch)
        self._bound = batch
        return self._plain

    def _bind(self, context: Any, batch: int) -> None:
        for name, shape in self._shapes.items():
            self._require(context.set_input_shape(name, (batch, *shape)), f"shape of {name}")

    def _new_context(self, batch: int, *, for_graph: bool = False) -> Any:
        context = self._loaded.new_context(for_graph=for_graph)
        if context is None:
            error = trt_error("Making an execution context", self._loaded.errors, running=True)
            raise BackendError(
                error.message,
                hint="Use fewer lanes or a smaller max_batch",
                action=Remedy.SMALLER_BATCH,
            )
        context.error_recorder = self._errors
        # All contexts of a lane share it: only one of them runs at a time.
        context.set_device_memory(self._activations.address, self._activations.size)
        for name, address in self._addresses().items():
            self._require(context.set_tensor_address(name, address), f"address of {name}")
        if self._aux:
            context.set_aux_streams([stream.number for stream in self._aux])
        self._bind(context, batch)
        return context

    def _addresses(self) -> dict[str, int]:
        inputs = {name: upload.input.address for name, upload in self._uploads.items()}
        outputs = {name: part.address for name, part in self._results.outputs.items()}
        return {**inputs, "availability": self._availability.address, **outputs}

    def _require(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise trt_error(f"Setting the {what}", self._errors, running=True)
