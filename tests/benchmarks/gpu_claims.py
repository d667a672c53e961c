"""What the GPU path claims, each measured and asserted in one function; all are seen to fail, too.

`test_gpu_speed` runs them on a real GPU, `test_80_gpu_claims` on a fake one whose times are told.
Every relation compares numbers of one run on one machine. TARGET is what the design asks for, and
SLACK what noise on a shared machine may take from it. They return what they measured.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from support import gpu_parts
from support.gpu_parts import Clock

from esccs_edge.contracts.values import Sample
from esccs_edge.power import EnergyLog, PowerMeter
from esccs_edge.runtime.counters import percentiles_ms

SLACK = 1.15
#: Of the slower of the engine alone and the upload of the raw pixels.
THROUGHPUT_TARGET = 0.95
#: Over copies, kernels and engine, while the host spins: a sleeping thread has to be woken first.
LATENCY_EXTRA_MS = 0.030
P99_TARGET = 1.2
EAGER_TARGET = 3.0
#: Of what clearing memory writes, which is a little more than what can be read and written.
BANDWIDTH_TARGET = 0.8
UPLOAD_TARGET = 0.8
#: Of the shorter of a batch's copies and its work, two lanes have to hide behind the other.
OVERLAP_TARGET = 0.5
#: Drivers keep some bookkeeping.
MOST_LOST_BYTES = 1 << 20
ROUNDS = 300

Found = dict[str, Any]


def upload_is_near_the_link(
    backend, samples: Sequence[Sample], *, link_bytes: int = 256 << 20,
    clock: Clock = time.perf_counter,
) -> Found:  # fmt: skip
    """The raw pixels of a batch go up nearly as fast as one large block."""
    link = gpu_parts.link_gb_per_s(backend.device, link_bytes, clock)
    upload = gpu_parts.parts_ms(backend, samples, clock=clock)["upload"]
    found = stored_bytes(samples) / upload / 1e6
    assert found >= UPLOAD_TARGET / SLACK * link["up"], (found, link)
    return {"link_gb_per_s": link, "upload_gb_per_s": found}


def preprocessing_uses_the_memory(
    backend, samples: Sequence[Sample], *, clear_bytes: int = 256 << 20,
    clock: Clock = time.perf_counter,
) -> Found:  # fmt: skip
    """The kernel reads and writes nearly as fast as memory is cleared."""
    ceiling = gpu_parts.clear_gb_per_s(backend.device, clear_bytes, clock)
    kernel = gpu_parts.parts_ms(backend, samples, clock=clock)["preprocess"]
    written = sum(4 * image.size for sample in samples for image in sample.pixels.values())
    found = (stored_bytes(samples) + written) / kernel / 1e6
    assert found >= BANDWIDTH_TARGET / SLACK * ceiling, (found, ceiling)
    return {"kernel_gb_per_s": found, "memory_gb_per_s": ceiling}


def latency_is_that_of_its_parts(
    backend, samples: Sequence[Sample], *, rounds: int = ROUNDS, clock: Clock = time.perf_counter
) -> Found:
    """A batch takes little longer than its parts on the GPU, and nearly always the same."""
    assert backend.describe()["wait"] == "spin", "a bound on latency is one for a host that spins"
    parts = gpu_parts.parts_ms(backend, samples, clock=clock)
    found = latency_ms(backend, samples, rounds, clock)
    assert found["p50"] <= SLACK * (sum(parts.values()) + LATENCY_EXTRA_MS), (found, parts)
    assert found["p99"] <= SLACK * P99_TARGET * found["p50"], found
    return {"latency_ms": found, "parts_ms": parts, "device_ms": sum(parts.values())}


def throughput_is_that_of_the_slower_part(
    backend, batches: Mapping[int, Sequence[Sample]], *, seconds: float = 1.0,
    clock: Clock = time.perf_counter,
) -> Found:  # fmt: skip
    """At its best batch size, two lanes reach what the slower of engine and upload allows."""
    rates, bounds = {}, {}
    for size, samples in batches.items():
        rates[size] = gpu_parts.samples_per_s(backend, samples, seconds, clock)
        parts = gpu_parts.parts_ms(backend, samples, clock=clock)
        bounds[size] = 1e3 * size / max(parts["engine"], parts["upload"])
    best = max(rates.values())
    assert best >= THROUGHPUT_TARGET / SLACK * max(bounds.values()), (rates, bounds)
    return {"pairs_per_s": rates, "bound_pairs_per_s": bounds}


def graphs_are_no_slower(plain_ms: Mapping[str, float], graph_ms: Mapping[str, float]) -> None:
    """One launch of a graph takes no longer than what it stands for, call by call."""
    assert graph_ms["p50"] <= SLACK * plain_ms["p50"], (graph_ms, plain_ms)


def lanes_overlap(backend, samples: Sequence[Sample], *, clock: Clock = time.perf_counter) -> Found:
    """One lane's copies run while another one computes: T(both) against T(one) + T(other)."""
    parts = gpu_parts.parts_ms(backend, samples, clock=clock)
    one, both = (gpu_parts.lanes_ms(backend, samples, lanes, clock) for lanes in (1, 2))
    could_hide = min(parts["upload"], parts["preprocess"] + parts["engine"])
    assert 2 * one - both >= OVERLAP_TARGET / SLACK * could_hide, (one, both, parts)
    return {"one_ms": one, "both_ms": both, "parts_ms": parts}


def branches_overlap(
    engine_ms: float, layers_ms: Sequence[tuple[str, float]], modalities: Sequence[str]
) -> Found:
    """The engine takes no longer than its branches one after the other.

    Args:
        engine_ms: The engine alone.
        layers_ms: Part of each layer, as `EngineLayer.part`, and its time alone.
        modalities: Names of the branches.
    """
    parts = {part: sum(ms for its, ms in layers_ms if its == part) for part, _ in layers_ms}
    one_after_the_other = sum(parts.values())
    assert engine_ms <= SLACK * one_after_the_other, (engine_ms, parts)
    shorter = min(parts.get(name, 0.0) for name in modalities)
    saved = (one_after_the_other - engine_ms) / shorter if shorter else math.nan
    return {"engine_ms": engine_ms, "parts_ms": parts, "share_of_shorter_branch_hidden": saved}


def memory_stays_flat(
    backend, samples: Sequence[Sample], *, seconds: float, clock: Clock = time.perf_counter
) -> Found:
    """Load leaves as much device memory free as it found."""
    gpu_parts.samples_per_s(backend, samples, min(seconds, 1.0), clock)
    before = backend.describe()["free_device_bytes"]
    rate = gpu_parts.samples_per_s(backend, samples, seconds, clock)
    lost = before - backend.describe()["free_device_bytes"]
    assert lost <= MOST_LOST_BYTES, lost
    return {"seconds": seconds, "pairs_per_s": rate, "lost_device_bytes": lost}


def load_draws_more_than_idling(
    meter: PowerMeter, rest: Callable[[], object], load: Callable[[], int]
) -> Found:
    """The board's meter sees the load; else the energy of a pair would mean nothing.

    Args:
        meter: Of the board.
        rest: Idles for a while.
        load: Works for a while; returns how many pairs it answered.
    """
    with EnergyLog(meter) as idle:
        rest()
    with EnergyLog(meter) as busy:
        pairs = load()
    assert busy.watts > idle.watts > 0, (busy.watts, idle.watts)
    return {
        "meter": meter.name, "idle_watts": idle.watts, "watts": busy.watts,
        "millijoules_a_pair": 1e3 * busy.joules / pairs,
        "millijoules_a_pair_over_idle": 1e3 * (busy.watts - idle.watts) * busy.seconds / pairs,
    }  # fmt: skip


def is_faster_than_eager(ours_ms: float, theirs_ms: float) -> None:
    """One pair through the lane beats the same network called from Python, op by op."""
    assert theirs_ms >= EAGER_TARGET / SLACK * ours_ms, (theirs_ms, ours_ms)


def latency_ms(
    backend, samples: Sequence[Sample], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Percentiles from raw pixels to results."""
    lane = backend.open_lane()
    gc.disable()  # as a station with a latency promise would
    try:
        return percentiles_ms(gpu_parts.latencies_s(lane, samples, rounds, clock))
    finally:
        gc.enable()
        lane.close()


def stored_bytes(samples: Sequence[Sample]) -> int:
    """Bytes of the raw pixels."""
    return sum(image.nbytes for sample in samples for image in sample.pixels.values())
