"""Times inside one lane by CUDA events: parts alone, and when each ran in an overlapped batch.

The lane calls its `marks` before and after each part; what is recorded there costs time, so that
whole batches are timed without.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from esccs_edge.contracts.values import PatchPair


@dataclass(frozen=True)
class Span:
    """Work on one stream, in milliseconds from the start of the batch."""

    name: str
    stream: str
    start_ms: float
    end_ms: float


class Marks:
    """Records an event before and after each part of a batch.

    Args:
        lane: Whose parts.
        alone: Let each part wait until nothing else runs.
    """

    def __init__(self, lane, *, alone: bool):
        self._alone, self._events = alone, defaultdict(list)
        lane.marks = self

    def __call__(self, part: str, stream) -> None:
        is_start = len(self._events[part]) % 2 == 0
        if self._alone and is_start:
            for events in self._events.values():
                for event in events[-1:]:
                    event.synchronize()
        self._events[part].append(_mark(stream.device, stream))

    def take(self) -> dict[str, tuple]:
        """The last batch's two events of each part; forgets all of them."""
        taken = {part: tuple(events[-2:]) for part, events in self._events.items()}
        self._events.clear()
        return taken


def parts_ms(backend, pairs: list[PatchPair], rounds: int = 50) -> dict[str, float]:
    """Median time of upload, preprocessing (each modality), engine and download, each alone."""
    lane = backend.open_lane()
    marks, times = Marks(lane, alone=True), defaultdict(list)
    for _ in range(rounds + 5):
        lane.answer(pairs)
        with backend.device.active():
            for part, (first, last) in marks.take().items():
                times[part].append(last.milliseconds_since(first))
                first.close()
                last.close()
    lane.close()
    return {part: float(np.median(found[5:])) for part, found in times.items()}


def trace(backend, pairs: list[PatchPair]) -> list[Span]:
    """When copies, kernels and engine of one batch ran, with all modalities set off at once."""
    lane = backend.open_lane()
    marks = Marks(lane, alone=False)
    with backend.device.active():
        for _ in range(3):  # the last round counts
            begin = _mark(backend.device, lane.compute)
            lane.answer(pairs)
        times = {
            part: [event.milliseconds_since(begin) for event in events]
            for part, events in marks.take().items()
        }
    lane.close()
    first = min(start for start, _ in times.values())  # before it the CPU gathers the pixels
    spans = []
    for modality in pairs[0].pixels:
        for name, part in ("copy", f"upload {modality}"), ("preprocess", f"preprocess {modality}"):
            spans.append(Span(name, modality, *(time - first for time in times[part])))
    return [*spans, Span("engine", "compute", *(time - first for time in times["engine"]))]


def overlap_ms(spans: list[Span]) -> float:
    """How long both modalities' streams were busy at once."""
    (a, b), (c, d) = (
        (min(s.start_ms for s in mine), max(s.end_ms for s in mine))
        for mine in ([s for s in spans if s.stream == name] for name in ("optical", "sar"))
    )
    return max(0.0, min(b, d) - max(a, c))


def as_trace_events(spans: list[Span]) -> list[dict]:
    """The form that chrome://tracing and Perfetto show."""
    return [
        {"name": s["name"], "tid": s["stream"], "pid": 0, "ph": "X",
         "ts": 1e3 * s["start_ms"], "dur": 1e3 * (s["end_ms"] - s["start_ms"])}
        for s in map(asdict, spans)
    ]  # fmt: skip


def bare_loop_s(backend, pairs: list[PatchPair], rounds: int) -> float:
    """Seconds per batch of the engine alone, enqueued back to back over resident inputs."""
    lane = backend.open_lane()
    with backend.device.active():
        context = lane.contexts.shared(len(pairs))
        for _ in range(5):
            lane.contexts.execute(context)
        lane.compute.synchronize()
        start = time.perf_counter()
        for _ in range(rounds):
            lane.contexts.execute(context)
        lane.compute.synchronize()
        found = (time.perf_counter() - start) / rounds
    lane.close()
    return found


def copy_gb_per_s(backend, size: int, rounds: int = 10) -> dict[str, float]:
    """What this machine's link gives: one large pinned block up, down, and both at once."""
    device = backend.device
    with device.active():
        host = [device.pinned(size) for _ in range(2)]
        there = [device.memory(size) for _ in range(2)]
        streams = [device.stream() for _ in range(2)]

        def up():
            there[0].upload(host[0].array, streams[0])

        def both():
            streams[1].wait(_mark(device, streams[0]))
            up()
            there[1].download(host[1].array, streams[1])
            streams[0].wait(_mark(device, streams[1]))

        steps = {
            "up": (streams[0], up),
            "down": (streams[1], lambda: there[1].download(host[1].array, streams[1])),
            "both": (streams[0], both),
        }
        times = {
            step: np.median([_timed_ms(device, *what) for _ in range(rounds)])
            for step, what in steps.items()
        }
        for owner in [*host, *there, *streams]:
            owner.close()
    return {step: size * (1 + (step == "both")) / ms / 1e6 for step, ms in times.items()}


def _mark(device, stream):
    event = device.event(timing=True)
    event.record(stream)
    return event


def _timed_ms(device, stream, enqueue: Callable[[], None]) -> float:
    first = _mark(device, stream)
    enqueue()
    last = _mark(device, stream)
    last.synchronize()
    found = last.milliseconds_since(first)
    first.close()
    last.close()
    return found
