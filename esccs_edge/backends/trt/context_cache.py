"""What runs a batch: TensorRT execution contexts, and the CUDA graphs made with them.

Batches are padded with absent rows to a few sizes. Such a batch is enqueued plainly at first, by
a context that all share. At its second time it gets a context of its own and is recorded; from then
on it is one launch of a graph. The copy of the pixels, whose bytes differ, is no part of it.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...cuda.device import FirstError
from ...cuda.owners import DeviceMemory, Graph, Stream
from ...errors import BackendError, Remedy
from .library import LoadedEngine, error_log, trt_error
from .pixel_upload import Filled

#: Called with how the batch was gathered and the context that runs the engine.
Enqueue = Callable[[Filled, Any], None]
_log = logging.getLogger("esccs_edge.tensorrt")


@dataclass(frozen=True)
class Bindings:
    """What every context of a lane reads, writes and works in.

    Attributes:
        shapes: Name of each input -> shape of one sample.
        addresses: Returns for a batch size the name of each tensor -> where it starts.
        activations: What a context works in. All contexts of a lane share it, since only one of
            them runs at a time.
        aux: Streams that TensorRT may use beside the lane's.
    """

    shapes: Mapping[str, tuple[int, ...]]
    addresses: Callable[[int], Mapping[str, int]]
    activations: DeviceMemory
    aux: tuple[Stream, ...]


class ContextCache:
    """The contexts and graphs of one lane.

    Args:
        loaded: The engine.
        bindings: What contexts are bound to.
        stream: Where batches run.
        graph_batches: Batch sizes of which graphs are made; others are padded to them where that
            less than doubles the batch.

    Attributes:
        graphs: How a batch was gathered -> its graph. There are at most as many as sizes times
            mixtures of narrow and wide pixels, two for each modality.
    """

    def __init__(
        self,
        loaded: LoadedEngine,
        bindings: Bindings,
        stream: Stream,
        graph_batches: Iterable[int],
    ) -> None:
        self._loaded, self._bindings, self._stream = loaded, bindings, stream
        self._errors = error_log(loaded.flavor)
        self._shared: Any = None
        self._bound = 0  # batch size of the shared context
        self.graphs: dict[Filled, Graph] = {}
        self._of_graphs: list[Any] = []  # contexts, kept as long as their graphs
        self._sizes = sorted(graph_batches)
        self._recorded = set(self._sizes)  # less those that could not be
        self._seen_once: set[Filled] = set()

    def rows_of(self, batch: int) -> int:
        """Return the rows with which a batch is run, always the same, so that its answers are."""
        place = bisect_left(self._sizes, batch)
        size = self._sizes[place] if place < len(self._sizes) else batch
        return size if size < 2 * batch else batch

    def run(self, filled: Filled, enqueue: Enqueue) -> None:
        """Launch the graph of such a batch, or enqueue plainly (and record the second time).

        Args:
            filled: How the batch was gathered; its pixels are on their way.
            enqueue: Puts all further work on the stream.

        Raises:
            BackendError: TensorRT or the driver refused.
        """
        if (graph := self.graphs.get(filled)) is not None:
            graph.launch(self._stream)
        elif filled.rows not in self._recorded:
            enqueue(filled, self.shared(filled.rows))
        elif filled in self._seen_once:
            self._run_and_record(filled, enqueue)
        else:
            enqueue(filled, self.shared(filled.rows))
            self._seen_once.add(filled)

    def shared(self, batch: int) -> Any:
        """Return the context that enqueues plainly, bound to a batch size."""
        if self._shared is None:
            self._shared = self._new_context(batch)
        elif self._bound != batch:
            self._bound = 0  # should it fail half-way
            self._bind(self._shared, batch)
        self._bound = batch
        return self._shared

    def execute(self, context: Any) -> None:
        """Enqueue the engine alone.

        Raises:
            BackendError: TensorRT refused.
        """
        self._require(context.execute_async_v3(self._stream.number), "Running the engine")

    def close(self) -> None:
        """Free graphs and contexts; nothing may be enqueued. The bound memory must still be there.

        Idempotent.

        Raises:
            CudaError: The first graph that could not be freed; the rest was still tried.
        """
        errors = FirstError(self._bindings.activations.device)
        for graph in self.graphs.values():
            with errors:
                graph.close()
        self.graphs.clear()
        self._of_graphs.clear()
        self._shared = None
        errors.throw()

    def _run_and_record(self, filled: Filled, enqueue: Enqueue) -> None:
        """Enqueue plainly on a context of the graph's own, as TensorRT asks; then record it."""
        try:
            context = self._new_context(filled.rows, for_graph=True)
        except BackendError as error:
            self._do_without_graphs(filled.rows, error)
            enqueue(filled, self.shared(filled.rows))
            return
        self._of_graphs.append(context)
        enqueue(filled, context)
        try:
            if not getattr(context, "is_stream_capturable", lambda _: True)(self._stream.number):
                raise BackendError("TensorRT says that this engine cannot be captured")
            self.graphs[filled] = self._stream.capture(lambda: enqueue(filled, context))
        except BackendError as error:
            self._do_without_graphs(filled.rows, error)

    def _do_without_graphs(self, rows: int, error: BackendError) -> None:
        """Say once why batches of this size are enqueued plainly from now on."""
        if error.action is Remedy.RESTART:
            raise error
        _log.warning("No CUDA graph for batches of %d, enqueued plainly: %s", rows, error)
        self._recorded.discard(rows)

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
        memory = self._bindings.activations
        context.set_device_memory(memory.address, memory.size)
        if self._bindings.aux:
            context.set_aux_streams([stream.number for stream in self._bindings.aux])
        self._bind(context, batch)
        return context

    def _bind(self, context: Any, batch: int) -> None:
        for name, shape in self._bindings.shapes.items():
            accepted = context.set_input_shape(name, (batch, *shape))
            self._require(accepted, f"Setting the shape of {name}")
        for name, address in self._bindings.addresses(batch).items():
            accepted = context.set_tensor_address(name, address)
            self._require(accepted, f"Setting the address of {name}")

    def _require(self, accepted: bool, doing: str) -> None:
        if not accepted:
            raise trt_error(doing, self._errors, running=True)
