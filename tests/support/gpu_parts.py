"""Times on a GPU by CUDA events, of work that waits behind other work when it is enqueued.

An idle GPU waits for the host between one call and the next, and that is what events around a few
calls would show. So the stream is kept busy until all is enqueued; that it was is checked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from esccs_edge.contracts.values import Sample

#: Of the memory that is cleared to keep a stream busy: a tenth of a millisecond on an H100.
BLOCK_BYTES = 256 << 20
#: Most clears in a row; a stream takes about a thousand calls before it makes the host wait.
MOST_CLEARS = 256
Clock = Callable[[], float]


class Block:
    """Keeps streams busy while work is enqueued behind.

    Args:
        device: A `Device`, active as long as the block is used.
        clock: The host's, in seconds.
    """

    def __init__(self, device, clock: Clock = time.perf_counter):
        self._device, self._clock = device, clock
        self._memory = device.memory(BLOCK_BYTES)

    def __enter__(self) -> Block:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()

    def mean_ms(self, stream, enqueue: Callable[[], None], rounds: int = 20) -> float:
        """Time of one enqueue among several; fewer where so many do not fit into the stream."""
        while True:
            try:
                return self.span_ms([stream], partial(_times, rounds, enqueue)) / rounds
            except TimeoutError:
                if rounds == 1:
                    raise
                rounds //= 2

    def span_ms(
        self,
        streams: Sequence[Any],
        enqueue: Callable[[], None],
        finish: Callable[[], None] = lambda: None,
    ) -> float:
        """Time from when the streams are let go until the last of them has done its work.

        Args:
            streams: Where ``enqueue`` puts work.
            enqueue: Called again, after ``finish``, where the streams were not busy long enough.
            finish: Called once the work is done.

        Raises:
            TimeoutError: They could not be kept busy until everything was enqueued.
        """
        clears = 1
        while clears <= MOST_CLEARS:
            start = self._clock()
            begin = _mark(self._device, streams[0])
            for _ in range(clears):
                self._memory.clear(streams[0])
            first = _mark(self._device, streams[0])
            for other in streams[1:]:
                other.wait(first)
            enqueue()
            ends = [_mark(self._device, stream) for stream in streams]
            host_ms = 1e3 * (self._clock() - start)
            for end in ends:
                end.synchronize()
            finish()
            busy_ms = first.milliseconds_since(begin)
            found = max(end.milliseconds_since(first) for end in ends)
            for event in (begin, first, *ends):
                event.close()
            if busy_ms >= host_ms:
                return found
            clears = max(clears + 1, math.ceil(1.5 * clears * host_ms / busy_ms))
        raise TimeoutError(f"enqueueing took {host_ms:.1f} ms, the stream was busy {busy_ms:.1f}")


def parts_ms(
    backend, samples: Sequence[Sample], rounds: int = 20, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Time of upload, preprocessing, engine and download of a batch on the GPU, each alone."""
    lane, found = backend.open_lane(), {}
    lane.answer(samples)  # what happens once has happened
    with backend.device.active(), Block(backend.device, clock) as block:

        def probe(part: str, enqueue: Callable[[], None], stream) -> None:
            found[part] = block.mean_ms(stream, enqueue, rounds)

        lane.probe = probe
        lane.answer(samples)
    lane.close()
    return found


def lanes_ms(
    backend, samples: Sequence[Sample], lanes: int, clock: Clock = time.perf_counter
) -> float:
    """Time of a batch on each of some lanes that are let go together."""
    opened = [backend.open_lane() for _ in range(lanes)]
    for lane in opened * 3:
        lane.answer(samples)

    def start() -> None:
        for lane in opened:
            lane.start(samples)

    def finish() -> None:
        for lane in opened:
            lane.finish()

    with backend.device.active(), Block(backend.device, clock) as block:
        found = block.span_ms([lane.compute for lane in opened], start, finish)
    for lane in opened:
        lane.close()
    return found


def latencies_s(
    lane, samples: Sequence[Sample], rounds: int, clock: Clock = time.perf_counter
) -> list[float]:
    """Times from raw pixels to results, one batch after the other."""
    times = []
    for _ in range(rounds + 20):
        start = clock()
        lane.answer(samples)
        times.append(clock() - start)
    return times[20:]


def samples_per_s(
    backend, samples: Sequence[Sample], seconds: float = 1.0, clock: Clock = time.perf_counter
) -> float:
    """Raw pixels in, results out, two lanes in turn."""
    lanes = [backend.open_lane() for _ in range(2)]
    for lane in lanes * 3:
        lane.answer(samples)
    lanes[0].start(samples)
    rounds, start = 0, clock()
    while clock() - start < seconds:
        lanes[(rounds + 1) % 2].start(samples)
        lanes[rounds % 2].finish()
        rounds += 1
    found = rounds * len(samples) / (clock() - start)
    lanes[rounds % 2].finish()
    for lane in lanes:
        lane.close()
    return found


def link_gb_per_s(device, size: int, clock: Clock = time.perf_counter) -> dict[str, float]:
    """What this machine's link gives for one large pinned block, up and down."""
    with (
        device.active(), device.pinned(size) as host, device.memory(size) as there,
        device.stream() as stream, Block(device, clock) as block,
    ):  # fmt: skip
        up = block.mean_ms(stream, lambda: there.upload(host, size, stream), rounds=8)
        down = block.mean_ms(stream, lambda: there.download(host, size, stream), rounds=8)
    return {"up": size / up / 1e6, "down": size / down / 1e6}


def clear_gb_per_s(device, size: int, clock: Clock = time.perf_counter) -> float:
    """Bytes written when a large block of the device's memory is cleared: what the memory gives."""
    with (
        device.active(), device.memory(size) as there,
        device.stream() as stream, Block(device, clock) as block,
    ):  # fmt: skip
        return size / block.mean_ms(stream, lambda: there.clear(stream), rounds=8) / 1e6


def _times(rounds: int, call: Callable[[], None]) -> None:
    for _ in range(rounds):
        call()


def _mark(device, stream):
    event = device.event(timing=True)
    event.record(stream)
    return event
