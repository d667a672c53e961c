"""One lane on the GPU: the streams and buffers that carry one batch.

Raw pixels in pinned memory -> a copy and the fused preprocessing kernel, on a stream for each
modality -> events -> TensorRT on the compute stream -> outputs and counts back -> event. All from
the copies to the counts is one CUDA graph where it can be (`ContextCache`). `start` only gathers
the pixels and enqueues; `finish` waits for that last event and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...contracts.manifest import Manifest
from ...contracts.values import Sample
from ...cuda.owners import Kernel, Stream
from ...errors import BackendError, ClosedError, Remedy
from ..base import Lane, LaneOutput
from .buffers import Allocator, Results
from .context_cache import Bindings, ContextCache
from .library import LoadedEngine
from .memory_budget import MemoryBudget
from .modality_upload import Availability, ModalityUpload
from .pixel_kernels import aligned

#: Called with the name of a part of a batch and its stream, before the part and again after it.
Marks = Callable[[str, Stream], None]


@dataclass(frozen=True)
class LaneOptions:
    """What all lanes of a backend share.

    Attributes:
        max_batch: Most samples in a batch.
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
    """See the module; made by `TrtBackend.open_lane`, with the device active.

    Args:
        make: Allocates what the lane owns; the caller frees it should this raise.
        loaded: The engine.
        kernels: ``esccs_preprocess_f32`` and ``esccs_availability``.
        manifest: Contract to obey.
        options: What all lanes share.

    Attributes:
        compute: Stream of the engine.
        contexts: What runs the batches.
        marks: Set it to time the parts of a batch: ``"upload <modality>"``,
            ``"preprocess <modality>"``, ``"engine"``, ``"download"``. Batches are then enqueued
            plainly, since a graph has no parts.
    """

    def __init__(
        self,
        make: Allocator,
        loaded: LoadedEngine,
        kernels: tuple[Kernel, Kernel],
        manifest: Manifest,
        options: LaneOptions,
    ) -> None:
        preprocess, count_shares = kernels
        pixels, max_batch = manifest.sample.height * manifest.sample.width, options.max_batch
        self._make, self._device, self._loaded = make, make.device, loaded
        self._max_batch, self._batch, self._closed = max_batch, 0, False
        self.marks: Marks | None = None
        self.compute = make.stream()
        self._fork, self._produced = make.event(), make.event()
        self._done = make.event(blocking=options.wait == "block")
        aux = tuple(make.stream() for _ in range(loaded.engine.num_aux_streams))
        self._results = Results(make, manifest, max_batch, options.mapped, self.compute)
        counts = self._results.counts
        self._uploads = {
            name: ModalityUpload(
                make,
                preprocess,
                spec,
                pixels,
                counts[name],
                max_batch=max_batch,
                mapped=options.mapped,
            )
            for name, spec in manifest.modalities.items()
        }
        self._availability = Availability(
            make, count_shares, list(counts.values()), pixels, max_batch
        )
        activations = make.memory(aligned(max(1, loaded.activation_bytes)))
        shapes = {name: tensor.row for name, tensor in manifest.inputs.items()}
        addresses = {name: upload.input.address for name, upload in self._uploads.items()}
        addresses |= {name: part.address for name, part in self._results.outputs.items()}
        for tensor in manifest.inputs.values():
            if tensor.role == "availability":
                addresses[tensor.name] = self._availability.input.address
        bindings = Bindings(shapes, addresses, activations, aux)
        self.contexts = ContextCache(loaded, bindings, self.compute, options.graph_batches)

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def start(self, batch: Sequence[Sample]) -> None:
        """Copy the pixels into pinned memory and enqueue everything else."""
        if self._closed:
            raise ClosedError("the lane was closed")
        if self._batch or not 1 <= len(batch) <= self._max_batch:
            raise BackendError(
                f"{len(batch)} samples were started with {self._batch} under way, "
                f"expected 1..{self._max_batch} with none"
            )
        with self._device.active():
            self._refuse_if_lost()
            try:
                sizes = [
                    upload.fill([sample.pixels[name] for sample in batch])
                    for name, upload in self._uploads.items()
                ]
                self._await_producers()
                if self.marks is None:
                    self.contexts.run((len(batch), *sizes), self._enqueue)
                else:
                    self._enqueue(len(batch), self.contexts.shared(len(batch)))
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
            self.contexts.close()  # before the memory that they point to
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

    def _enqueue(self, batch: int, context: Any) -> None:
        """Enqueue everything; the streams of the modalities start from the compute stream."""
        self._fork.record(self.compute)
        for name, one in self._uploads.items():
            one.stream.wait(self._fork)
            self._part(f"upload {name}", one.stream, one.upload)
        for name, one in self._uploads.items():
            self._part(f"preprocess {name}", one.stream, one.preprocess, batch)
            self.compute.wait(one.ready)
        self._availability.enqueue(batch, self.compute)
        self._part("engine", self.compute, self.contexts.execute, context)
        self._part("download", self.compute, self._results.download, self.compute)

    def _part(
        self, name: str, stream: Stream, enqueue: Callable[..., None], *arguments: Any
    ) -> None:
        """Enqueue one part of a batch, between two marks where parts are timed."""
        if self.marks is None:
            return enqueue(*arguments)
        self.marks(name, stream)
        enqueue(*arguments)
        self.marks(name, stream)
