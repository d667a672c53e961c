"""A fake GPU that also tells the time, by what each operation is said to take.

An operation begins when its stream is free, the host has enqueued it, and the unit that does it is
free: one unit copies up, one down, and one computes. The host's clock moves by what a call costs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from support.fake_gpu import FakeDriver

#: Operation -> the unit that does it; graphs stand for what they hold.
UNITS = {"copy_to_device": "up", "copy_to_host": "down"}
#: Milliseconds by operation and bytes, as told by a test.
Costs = dict[str, Callable[[int], float]]


class TimedDriver(FakeDriver):
    """See the module.

    Attributes:
        costs: Operation -> milliseconds for a number of bytes (0 for what copies and clears none).
        units: Operation -> unit; one unit for all is a GPU on which nothing overlaps.
        call_ms: What a call costs the host.
        stalls: Number of a wait -> milliseconds that it takes longer, counted from 1.
        leak: Bytes that are lost in each wait.
    """

    def __init__(self, costs: Costs, **options):
        super().__init__(**options)
        self.costs, self.units = costs, UNITS
        self.call_ms, self.host_ms = 0.001, 0.0
        self.stalls: Callable[[int], float] = lambda wait: 0.0
        self.leak, self._waits = 0, 0
        self._bytes = 0  # of the operation that is being enqueued
        self._stream_ms: dict = defaultdict(float)  # when each is free
        self._unit_ms: dict[str, float] = defaultdict(float)
        self._event_ms: dict[int, float] = defaultdict(float)

    def clock(self) -> float:
        """Seconds on the host's clock."""
        return 1e-3 * self.host_ms

    def _enter(self, call):
        super()._enter(call)
        self.host_ms += self.call_ms

    def memory_info(self):
        free, total = super().memory_info()
        return free - self.leak * self._waits, total

    def copy_to_device(self, target, source, size, stream):
        self._bytes = size
        super().copy_to_device(target, source, size, stream)

    def copy_to_host(self, target, source, size, stream):
        self._bytes = size
        super().copy_to_host(target, source, size, stream)

    def fill_zero(self, address, size, stream):
        self._bytes = size
        super().fill_zero(address, size, stream)

    def _enqueue(self, stream, name, work):
        cost = self.costs[name](self._bytes) if name != "graph" else 0.0
        self._bytes = 0
        if stream.capture is None:
            self._run_for(stream, name, cost)
        else:
            stream.capture.__dict__.setdefault("costs", []).append((name, cost))
        super()._enqueue(stream, name, work)

    def launch_graph(self, graph, stream):
        super().launch_graph(graph, stream)
        for name, cost in graph.costs:
            self._run_for(stream, name, cost)

    def _run_for(self, stream, name, cost_ms):
        unit = self.units.get(name, "compute")
        start = max(self._stream_ms[stream], self._unit_ms[unit], self.host_ms)
        self._stream_ms[stream] = self._unit_ms[unit] = start + cost_ms

    def record_event(self, event, stream):
        super().record_event(event, stream)
        self._event_ms[event.serial] = max(self._stream_ms[stream], self.host_ms)

    def wait_event(self, stream, event):
        super().wait_event(stream, event)
        self._stream_ms[stream] = max(self._stream_ms[stream], self._event_ms[event.serial])

    def synchronize_event(self, event):
        super().synchronize_event(event)
        self._waits += 1
        self.host_ms = max(self.host_ms, self._event_ms[event.serial]) + self.stalls(self._waits)

    def elapsed_ms(self, start, end):
        return self._event_ms[end.serial] - self._event_ms[start.serial]
