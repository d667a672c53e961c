"""How long each layer of an engine takes, as TensorRT's own profiler tells."""

from __future__ import annotations

import statistics
from typing import Any

from .context_cache import ContextCache
from .library import Flavor, implement

#: Runs that count, after some that only warm up.
ROUNDS, WARM = 20, 5


class LayerTimes:
    """Collects what a profiler is told, run after run."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Keep one time; called by the library."""
        self._times.setdefault(layer_name, []).append(float(ms))

    def medians_ms(self) -> dict[str, float]:
        """Return the median of each layer's times in milliseconds, but for those of warming up."""
        return {
            name: statistics.median(times[WARM:] or times) for name, times in self._times.items()
        }


def layer_times_ms(flavor: Flavor, contexts: ContextCache, batch: int) -> dict[str, float]:
    """Run a batch again and again over inputs that are there, and return each layer's time.

    The library lets layers run one after the other meanwhile, so that their sum may exceed what the
    engine takes; with it a context is slower for good, so use one of a lane that is closed then.

    Args:
        flavor: The engine's library.
        contexts: Of a lane at rest.
        batch: Samples of the batch.

    Raises:
        BackendError: TensorRT refused.
    """
    times: Any = implement(flavor.trt.IProfiler, LayerTimes)()
    context = contexts.shared(batch)
    context.profiler = times
    context.enqueue_emits_profile = True  # each run then waits for its end and tells
    for _ in range(WARM + ROUNDS):
        contexts.execute(context)
    medians: dict[str, float] = times.medians_ms()
    return medians
