"""What the CPU does for a batch on the GPU; `test_host_cost.py` runs it over an idle libcuda.

Prints one JSON line per way of enqueueing and batch size: microseconds of `start` and `finish`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

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
        for graphs, found in times.items():
            medians = map(statistics.median, zip(*found[ROUNDS // 10 :], strict=True))
            start, finish = (round(1e6 * seconds, 1) for seconds in medians)
            print(json.dumps({"graph": graphs, "batch": batch, "start": start, "finish": finish}))
    for backend in backends.values():
        backend.close()


def one_round(lane, pairs) -> tuple[float, float]:
    begin = time.perf_counter()
    lane.start(pairs)
    started = time.perf_counter()
    lane.finish()
    return started - begin, time.perf_counter() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]))
