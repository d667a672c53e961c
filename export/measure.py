"""How fast a backend's lanes are on this machine, from raw pixels to logits, and what it costs.

Batch 1 on one lane gives latency; full batches that alternate between two lanes, so that copies
and inference overlap, give throughput and energy. Pixels are random: only time is measured.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from esccs_edge.backends.base import Backend
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.values import Sample
from esccs_edge.pixels.synthetic import random_samples
from esccs_edge.power import EnergyLog, PowerMeter
from esccs_edge.runtime.counters import percentiles_ms

#: More than enough for lazy loading, clocks that rise, and CUDA graphs, captured at the second run.
WARMUP_ROUNDS = 20
#: Each figure comes from at least so many calls; a 99th percentile needs some.
MIN_ROUNDS = 200
LANES = 2


@dataclass(frozen=True)
class Speed:
    """What was measured of one backend.

    Attributes:
        p50_ms: Median time of one sample.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        pairs_per_s: Throughput at full batches.
        batch: Samples in a full batch.
        millijoules_per_pair: Energy above idle at full batches; None without a sensor.
        watts: Mean power at full batches; None without a sensor.
        idle_watts: Mean power before.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    pairs_per_s: float
    batch: int
    millijoules_per_pair: float | None = None
    watts: float | None = None
    idle_watts: float | None = None


def measure_speed(
    backend: Backend, manifest: Manifest, *, seconds: float, meter: PowerMeter | None = None
) -> Speed:
    """Measure a backend.

    Args:
        backend: Loaded model; nothing else should use the device meanwhile.
        manifest: Its contract.
        seconds: Time spent on latency, on throughput, and on idle power, each at least.
        meter: Power sensor, if the machine has one.

    Raises:
        BackendError: The backend or the sensor failed.
    """
    samples = random_samples(manifest, backend.max_batch)
    idle_watts = None if meter is None else _idle_watts(meter, seconds)
    p50, p90, p99 = percentiles_ms(_latencies_s(backend, samples[:1], seconds)).values()
    if meter is None or idle_watts is None:
        return Speed(p50, p90, p99, _throughput(backend, samples, seconds), len(samples))
    with EnergyLog(meter) as log:
        rate = _throughput(backend, samples, seconds)
    above_idle = max(0.0, log.watts - idle_watts)
    return Speed(
        p50, p90, p99, rate, len(samples), 1e3 * above_idle / rate, log.watts, idle_watts
    )  # fmt: skip


def _latencies_s(backend: Backend, batch: list[Sample], seconds: float) -> list[float]:
    lane = backend.open_lane()
    try:
        times: list[float] = []
        end = 0.0
        while len(times) < WARMUP_ROUNDS + MIN_ROUNDS or time.perf_counter() < end:
            start = time.perf_counter()
            lane.answer(batch)
            times.append(time.perf_counter() - start)
            end = end or start + seconds
        return times[WARMUP_ROUNDS:]
    finally:
        lane.close()


def _throughput(backend: Backend, batch: list[Sample], seconds: float) -> float:
    """Pairs per second; while one lane computes, the next one is filled."""
    lanes = [backend.open_lane() for _ in range(LANES)]
    try:
        for lane in lanes * WARMUP_ROUNDS:
            lane.answer(batch)
        lanes[0].start(batch)
        rounds, start = 0, time.perf_counter()
        while rounds < MIN_ROUNDS // 10 or time.perf_counter() - start < seconds:
            lanes[(rounds + 1) % LANES].start(batch)
            lanes[rounds % LANES].finish()
            rounds += 1
        rate = rounds * len(batch) / (time.perf_counter() - start)
        lanes[rounds % LANES].finish()
        return rate
    finally:
        for lane in lanes:
            lane.close()


def _idle_watts(meter: PowerMeter, seconds: float) -> float:
    with EnergyLog(meter) as log:
        time.sleep(seconds)
    return log.watts
