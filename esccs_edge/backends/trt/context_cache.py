"""What runs a layout of a batch: TensorRT execution contexts, and the CUDA graphs made with them.

A layout is enqueued plainly at first, by one context that all layouts share. At its second batch it
gets a context of its own and is recorded; from then on it is one launch of a graph.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...cuda.owners import DeviceMemory, Graph, Stream
from ...errors import BackendError, Remedy
from .library import LoadedEngine, error_log, trt_error

#: A graph copies so many bytes and no others: mixtures of types and absent patches each need their
#: own. Once there are so many of them, all other layouts are enqueued plainly.
_MOST_GRAPHS = 8

#: Samples, then bytes to upload of each modality.
Layout = tuple[int, ...]
#: Called with the number of samples and the context that runs the engine.
Enqueue = Callable[[int, Any], None]
_log = logging.getLogger("esccs_edge.tensorrt")


@dataclass(frozen=True)
class Bindings:
    """What every context of a lane reads, writes and works in.

    Attributes:
        shapes: Name of each input -> shape of one sample.
        addresses: Name of each tensor -> where it starts on the device.
        activations: What a context works in. All contexts of a lane share it, since only one of
            them runs at a time.
        aux: Streams that TensorRT may use beside the lane's.
    """

    shapes: Mapping[str, tuple[int, ...]]
    addresses: Mapping[str, int]
    activations: DeviceMemory
    aux: tuple[Stream, ...]


class ContextCache:
    """The contexts and graphs of one lane.

    Args:
        loaded: The engine.
        bindings: What contexts are bound to.
        stream: Where batches run.
        graph_batches: Batch sizes of which graphs are made.

    Attributes:
        graphs: Layout -> graph.
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
        self.graphs: dict[Layout, Graph] = {}
        self._of_graphs: list[Any] = []  # contexts, kept as long as their graphs
        self._graph_batches = set(graph_batches)
        self._seen_once = deque[Layout](maxlen=_MOST_GRAPHS)

    def run(self, layout: Layout, enqueue: Enqueue) -> None:
        """Launch the graph of this layout, or enqueue plainly (and record the second time).

        Args:
            layout: Of the batch that was gathered.
            enqueue: Puts all its work on the streams.

        Raises:
            BackendError: TensorRT or the driver refused.
        """
        batch = layout[0]
        if (graph := self.graphs.get(layout)) is not None:
            graph.launch(self._stream)
        elif layout in self._seen_once and len(self.graphs) < _MOST_GRAPHS:
            self._run_and_record(layout, enqueue)
        else:
            enqueue(batch, self.shared(batch))
            if batch in self._graph_batches:
                self._seen_once.append(layout)

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
        """
        for graph in self.graphs.values():
            graph.close()
        self._of_graphs.clear()
        self._shared = None

    def _run_and_record(self, layout: Layout, enqueue: Enqueue) -> None:
        """Enqueue plainly on a context of the graph's own, as TensorRT asks; then record it."""
        batch = layout[0]
        try:
            context = self._new_context(batch, for_graph=True)
        except BackendError as error:
            self._do_without_graphs(batch, error)
            enqueue(batch, self.shared(batch))
            return
        self._of_graphs.append(context)
        enqueue(batch, context)
        try:
            if not getattr(context, "is_stream_capturable", lambda _: True)(self._stream.number):
                raise BackendError("TensorRT says that this engine cannot be captured")
            self.graphs[layout] = self._stream.capture(lambda: enqueue(batch, context))
        except BackendError as error:
            self._do_without_graphs(batch, error)

    def _do_without_graphs(self, batch: int, error: BackendError) -> None:
        """Say once why batches of this size are enqueued plainly from now on."""
        if error.action is Remedy.RESTART:
            raise error
        _log.warning("No CUDA graph for batches of %d, enqueued plainly: %s", batch, error)
        self._seen_once.clear()
        self._graph_batches.discard(batch)

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
        for name, address in self._bindings.addresses.items():
            accepted = context.set_tensor_address(name, address)
            self._require(accepted, f"Setting the address of {name}")
        if self._bindings.aux:
            context.set_aux_streams([stream.number for stream in self._bindings.aux])
        self._bind(context, batch)
        return context

    def _bind(self, context: Any, batch: int) -> None:
        for name, shape in self._bindings.shapes.items():
            accepted = context.set_input_shape(name, (batch, *shape))
            self._require(accepted, f"Setting the shape of {name}")

    def _require(self, accepted: bool, doing: str) -> None:
        if not accepted:
            raise trt_error(doing, self._errors, running=True)
