"""What the CPU does for a batch on the GPU; `test_host_cost.py` runs it over an idle libcuda.

Prints one JSON line per way of enqueueing and batch size: microseconds of `start` and `finish`;
``copy``, those of a plain copy of the pixels, which is part of `start` in any case; and how many
``calls`` of functions both make. A last line has the microseconds of a ``lane`` with one pair and
of its ``floor``: that copy and the calls of the driver, which no lane can do without.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from support import fake_trt

from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.backends.trt.library import LoadedEngine, error_log
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.pixels.synthetic import random_samples
from esccs_edge.system.sealed_cache import SealedCache

BATCHES = (1, 8, 32)
ROUNDS = 400


class Idle:
    """Where the fake engine would put its work."""

    def enqueue_on(self, number, work):
        pass


def open_backend(bundle: Bundle, folder: Path, graphs: bool) -> trt_backend.TrtBackend:
    flavor = fake_trt.fake_flavor(Idle(), bundle.manifest)
    loaded = LoadedEngine(flavor, flavor.trt.engine, error_log(flavor), None)
    trt_backend.pick_flavor = lambda: flavor
    trt_backend.EngineBuilder.load_or_build = lambda builder, cache: loaded
    return trt_backend.TrtBackend(
        bundle,
        bundle.manifest,
        max_batch=max(BATCHES),
        graph_batches=BATCHES if graphs else (),
        cache=SealedCache(folder),
    )


def main(folder: Path) -> None:
    bundle = Bundle.open()
    backends = {graphs: open_backend(bundle, folder, graphs) for graphs in (True, False)}
    lanes = {graphs: backend.open_lane() for graphs, backend in backends.items()}
    for batch in BATCHES:
        pairs = random_samples(bundle.manifest, batch)
        times = {graphs: [] for graphs in lanes}
        for _ in range(ROUNDS):  # in turns, since the speed of a shared machine drifts
            for graphs, lane in lanes.items():
                times[graphs].append(one_round(lane, pairs))
        copy = quiet_us(copies(pairs))
        for graphs, found in times.items():
            start, finish = map(quiet_us, zip(*found, strict=True))
            steps = {"start": start, "finish": finish, "copy": copy}
            calls = calls_of(lanes[graphs], pairs)
            print(json.dumps({"graph": graphs, "batch": batch, **steps, "calls": calls}))
    print(json.dumps(lane_and_floor(lanes[True], backends[True].device, bundle)))
    for backend in backends.values():
        backend.close()


def one_round(lane, pairs) -> tuple[float, float]:
    begin = time.perf_counter()
    lane.start(pairs)
    started = time.perf_counter()
    lane.finish()
    return started - begin, time.perf_counter() - started


def copies(pairs) -> list[float]:
    pixels = in_one_piece(pairs)
    room, times = np.empty_like(pixels), []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        np.copyto(room, pixels)
        times.append(time.perf_counter() - begin)
    return times


def calls_of(lane, pairs) -> int:
    """Functions called, in Python or from there, by a batch."""
    events = Counter()
    sys.setprofile(lambda frame, event, argument: events.update([event]))
    lane.start(pairs)
    lane.finish()
    sys.setprofile(None)
    return events["call"] + events["c_call"]


def lane_and_floor(lane, device, bundle: Bundle) -> dict[str, float]:
    pairs = random_samples(bundle.manifest, 1)
    floor, times = Floor(device, pairs), []
    for _ in range(ROUNDS):
        times.append((sum(one_round(lane, pairs)), floor.one_round()))
    return dict(zip(("lane", "floor"), map(quiet_us, zip(*times, strict=True)), strict=True))


class Floor:
    """The pixels of a batch, already in one piece, and a graph of nothing."""

    def __init__(self, device, pairs) -> None:
        self._device, self._pixels = device, in_one_piece(pairs)
        with device.active():
            self._pinned = device.pinned(self._pixels.size)
            self._memory = device.memory(self._pixels.size)
            self._stream, self._event = device.stream(), device.event()
            self._graph = self._stream.capture(lambda: None)
        self._room = self._pinned.array

    def one_round(self) -> float:
        begin = time.perf_counter()
        np.copyto(self._room, self._pixels)
        with self._device.active():
            self._memory.upload(self._pinned, self._room.size, self._stream)
            self._graph.launch(self._stream)
            self._event.record(self._stream)
        with self._device.active():
            self._event.synchronize()
        return time.perf_counter() - begin


def in_one_piece(pairs) -> np.ndarray:
    images = [image for pair in pairs for image in pair.pixels.values()]
    return np.concatenate([image.reshape(-1).view(np.uint8) for image in images])


def quiet_us(times) -> float:
    """The lower decile, in microseconds: what is found while no other process disturbs."""
    return round(1e6 * statistics.quantiles(times[ROUNDS // 10 :], n=10)[0], 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
