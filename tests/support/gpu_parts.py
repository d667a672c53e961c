"""Times inside one lane by CUDA events: parts alone, and when each ran in an overlapped batch.

Drives a lane's own buffers, streams and kernels in the lane's order, with events in between, which
the lane itself leaves out because they cost time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from esccs_edge.contracts.values import PatchPair


@dataclass(frozen=True)
class Span:
    """Work on one stream, in milliseconds from the start of the batch."""

    name: str
    stream: str
    start_ms: float
    end_ms: float


def fill(lane, pairs: list[PatchPair]) -> None:
    """Gather raw pixels in the lane's pinned buffers."""
    for name, branch in branches(lane).items():
        branch.fill([getattr(pair, name) for pair in pairs])


def branches(lane) -> dict[str, Any]:
    return dict(lane._uploads)


def execute(lane, count: int) -> None:
    """Enqueue the engine on the compute stream, over what lies in its inputs."""
    assert lane._plain_context(count).execute_async_v3(lane.compute.number)


def parts_ms(backend, pairs: list[PatchPair], rounds: int = 50) -> dict[str, float]:
    """Median time of upload, preprocessing (both modalities), engine and download, each alone."""
    with backend._device.active():
        lane = backend.open_lane()
        count = len(pairs)
        fill(lane, pairs)
        steps = {}
        for name, branch in branches(lane).items():
            steps[f"upload {name}"] = branch.stream, branch.upload
            steps[f"preprocess {name}"] = branch.stream, partial(branch.preprocess, count)
        steps["engine"] = lane.compute, lambda: execute(lane, count)
        steps["download"] = lane.compute, lambda: lane._results.download(lane.compute)
        times = {step: [] for step in steps}
        for _ in range(rounds + 5):
            for step, (stream, enqueue) in steps.items():
                times[step].append(_timed_ms(backend._device, stream, enqueue))
        lane.close()
    return {step: float(np.median(found[5:])) for step, found in times.items()}


def trace(backend, pairs: list[PatchPair]) -> list[Span]:
    """When copies, kernels and engine of one batch ran, with both modalities set off at once."""
    device = backend._device
    with device.active():
        lane = backend.open_lane()
        count = len(pairs)
        fill(lane, pairs)
        for _ in range(3):  # the last round counts
            marks = {}
            begin = _mark(device, lane.compute)
            for name, branch in branches(lane).items():
                branch.stream.wait(begin)
                first = _mark(device, branch.stream)
                branch.upload()
                copied = _mark(device, branch.stream)
                branch.preprocess(count)
                marks[name] = first, copied, _mark(device, branch.stream)
                lane.compute.wait(branch.ready)
            before = _mark(device, lane.compute)
            execute(lane, count)
            marks["engine"] = before, _mark(device, lane.compute)
            lane.compute.synchronize()
        spans = []
        for name in branches(lane):
            first, copied, done = (event.milliseconds_since(begin) for event in marks[name])
            spans += [Span("copy", name, first, copied), Span("preprocess", name, copied, done)]
        first, done = (event.milliseconds_since(begin) for event in marks["engine"])
        spans.append(Span("engine", "compute", first, done))
        lane.close()
    return spans


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
    with backend._device.active():
        lane = backend.open_lane()
        count = len(pairs)
        for _ in range(5):
            execute(lane, count)
        lane.compute.synchronize()
        start = time.perf_counter()
        for _ in range(rounds):
            execute(lane, count)
        lane.compute.synchronize()
        found = (time.perf_counter() - start) / rounds
        lane.close()
    return found


def copy_gb_per_s(backend, size: int, rounds: int = 10) -> dict[str, float]:
    """What this machine's link gives: one large pinned block up, down, and both at once."""
    device = backend._device
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
