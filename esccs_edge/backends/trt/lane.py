"""One lane on the GPU: the stream and buffers that carry one batch.

Raw pixels in pinned memory -> a copy -> the fused preprocessing kernel -> TensorRT -> outputs and
counts back -> event, all on one stream; copies overlap with the work of other lanes. All after the
copy is one CUDA graph where it can be (`ContextCache`). `start` only gathers the pixels and
enqueues; `finish` waits for that last event and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...contracts.manifest import Manifest
from ...contracts.values import Sample
from ...cuda.device import FirstError
from ...cuda.owners import Kernel, Stream
from ...errors import BackendError, ClosedError, Remedy
from ..base import Lane, LaneOutput
from .buffers import Allocator, Results
from .context_cache import Bindings, ContextCache
from .library import LoadedEngine
from .memory_budget import MemoryBudget
from .pixel_kernels import aligned
from .pixel_upload import Filled, PixelUpload

#: Called with the name of a part of a batch, what enqueues it, and the stream. It has to enqueue
#: it, and may do so again and again: each part gives the same when it is repeated.
Probe = Callable[[str, Callable[[], None], Stream], None]


@dataclass(frozen=True)
class LaneOptions:
    """What all lanes of a backend share.

    Attributes:
        max_batch: Most samples in a batch.
        graph_batches: Batch sizes of which a CUDA graph is captured once they have run; smaller
            batches are padded to them.
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
        kernel: ``esccs_preprocess_f32``.
        manifest: Contract to obey.
        options: What all lanes share.

    Attributes:
        compute: Stream of the batches.
        contexts: What runs the batches.
        probe: Set it to time the parts of a batch: ``"upload"``, ``"preprocess"``, ``"engine"``,
            ``"download"``. Batches are then enqueued plainly, since a graph has no parts.
    """

    def __init__(
        self,
        make: Allocator,
        loaded: LoadedEngine,
        kernel: Kernel,
        manifest: Manifest,
        options: LaneOptions,
    ) -> None:
        max_batch = options.max_batch
        self._make, self._device, self._loaded = make, make.device, loaded
        self._max_batch, self._batch, self._rows, self._closed = max_batch, 0, 0, False
        self._at_work = False  # perhaps something is enqueued that has not ended
        self.probe: Probe | None = None
        self.compute, self._produced = make.stream(), make.event()
        self._done = make.event(blocking=options.wait == "block")
        aux = tuple(make.stream() for _ in range(loaded.engine.num_aux_streams))
        self._results = Results(make, manifest, max_batch, options.mapped)
        self._pixels = PixelUpload(
            make,
            kernel,
            manifest,
            max_batch=max_batch,
            mapped=options.mapped,
            stream=self.compute,
        )
        activations = make.memory(aligned(max(1, loaded.activation_bytes)))
        shapes = {name: tensor.row for name, tensor in manifest.inputs.items()}
        bindings = Bindings(shapes, self._addresses, activations, aux)
        self.contexts = ContextCache(loaded, bindings, self.compute, options.graph_batches)

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def start(self, batch: Sequence[Sample]) -> None:
        """Copy the pixels into pinned memory and enqueue everything else.

        Raises:
            InputError: Pixels on a GPU are not memory that this one can read.
            BackendError: TensorRT or the driver refused.
        """
        if self._closed:
            raise ClosedError("the lane was closed")
        if self._batch or not 1 <= len(batch) <= self._max_batch:
            raise BackendError(
                f"{len(batch)} samples were started with {self._batch} under way, "
                f"expected 1..{self._max_batch} with none"
            )
        with self._device.active():
            self._refuse_if_lost()
            self._settle()  # after an interrupt that came while an error was dealt with
            try:
                filled = self._fill(batch)
                self._at_work = True
                self._run(filled)
                self._done.record(self.compute)
            except BaseException as error:  # the pixels and buffers are given back after it
                self._note_if_lost(error)
                self._settle()
                raise
        self._batch, self._rows = len(batch), filled.rows

    def finish(self) -> LaneOutput:
        """Wait for the batch's last event and copy its results out of pinned memory."""
        batch, self._batch = self._batch, 0
        if not batch:
            raise BackendError("no batch was started on this lane")
        with self._device.active():
            self._refuse_if_lost()
            try:
                self._done.synchronize()
                self._at_work = False
            except BaseException as error:
                self._note_if_lost(error)
                self._settle()
                raise
        results = self._results.of(self._rows)
        return LaneOutput(
            {name: rows[:batch].copy() for name, rows in results.outputs.items()},
            self._pixels.read(results),
        )

    def close(self) -> None:
        """Let running work end, then free contexts, graphs and memory, newest first.

        On a lost GPU they are only forgotten.

        Raises:
            CudaError: The first thing that could not be freed; the rest was still tried.
        """
        if self._closed or not self._device.is_ours:
            return
        self._closed = True
        errors = FirstError(self._device)
        with errors:
            self._in_context(self._make.settle)
        with errors:
            self._in_context(self.contexts.close)  # before the memory that they point to
        with errors:
            self._in_context(self._make.free)
        errors.throw()

    def _in_context(self, free: Callable[[], object]) -> None:
        if self._device.lost:
            free()
            return
        with self._device.active():
            free()

    def _settle(self) -> None:
        """Wait until nothing of this lane runs; give the GPU up where that cannot be known."""
        if not self._at_work:
            return
        failed = self._make.settle()
        if failed is not None:
            self._device.lose(f"waiting for a failed batch to end failed too: {failed}")
        self._at_work = False

    def _refuse_if_lost(self) -> None:
        """Run nothing on any lane after an error that leaves GPU or TensorRT undefined."""
        if self._loaded.lost:
            raise BackendError(
                f"nothing is run any more, since earlier {self._loaded.lost}",
                hint="Restart the process",
                action=Remedy.RESTART,
            )

    def _note_if_lost(self, error: BaseException) -> None:
        self._device.note(error)
        if isinstance(error, BackendError) and error.action is Remedy.RESTART:
            self._loaded.lost = self._loaded.lost or error.message

    def _fill(self, batch: Sequence[Sample]) -> Filled:
        """Gather the pixels in pinned memory."""
        return self._pixels.fill(batch, self.contexts.rows_of(len(batch)))

    def _run(self, filled: Filled) -> None:
        """Enqueue the batch."""
        self._await_producers()
        self._part("upload", self._pixels.upload, self.compute)
        if self.probe is None:
            self.contexts.run(filled, self._enqueue)
        else:
            self._enqueue(filled, self.contexts.shared(filled.rows))

    def _await_producers(self) -> None:
        """Let the batch wait for what makes the pixels that lie on the GPU; returns at once."""
        for stream in self._pixels.producers:
            self._produced.record(self._device.adopt(stream))
            self.compute.wait(self._produced)
        for event in self._pixels.events:
            self.compute.wait(self._device.adopt_event(event))

    def _enqueue(self, filled: Filled, context: Any) -> None:
        """Enqueue everything after the copy of the pixels."""
        rows, results = filled.rows, self._results
        self._part("preprocess", self._pixels.preprocess, filled, results.of(rows), self.compute)
        self._part("engine", self.contexts.execute, context)
        self._part("download", results.download, rows, self.compute)

    def _part(self, name: str, enqueue: Callable[..., None], *arguments: Any) -> None:
        """Enqueue one part of a batch, by way of the probe where parts are timed."""
        if self.probe is None:
            enqueue(*arguments)
        else:
            self.probe(name, partial(enqueue, *arguments), self.compute)

    def _addresses(self, rows: int) -> dict[str, int]:
        """Return where each tensor of a batch starts on the device."""
        return {**self._pixels.inputs, **self._results.of(rows).addresses}
