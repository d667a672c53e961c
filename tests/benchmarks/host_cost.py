"""What the CPU does for a batch on the GPU; `test_host_cost.py` runs it over an idle libcuda.

Prints one JSON line per way of enqueueing and batch size: microseconds of `start` and `finish`, and
of ``copy``, which is a plain copy of the pixels and part of `start` in any case.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
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
        copy = median_us(copies(pairs))
        for graphs, found in times.items():
            start, finish = map(median_us, zip(*found, strict=True))
            steps = {"start": start, "finish": finish, "copy": copy}
            print(json.dumps({"graph": graphs, "batch": batch, **steps}))
    for backend in backends.values():
        backend.close()


def one_round(lane, pairs) -> tuple[float, float]:
    begin = time.perf_counter()
    lane.start(pairs)
    started = time.perf_counter()
    lane.finish()
    return started - begin, time.perf_counter() - started


def copies(pairs) -> list[float]:
    images = [image for pair in pairs for image in pair.pixels.values()]
    pixels = np.concatenate([image.reshape(-1).view(np.uint8) for image in images])
    room, times = np.empty_like(pixels), []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        np.copyto(room, pixels)
        times.append(time.perf_counter() - begin)
    return times


def median_us(times) -> float:
    return round(1e6 * statistics.median(times[ROUNDS // 10 :]), 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
