"""Timing a call over and over, with the energy it takes where a sensor can be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..power import EnergyLog, PowerMeter

#: Untimed calls at the beginning, so that caches hold what the call needs. A first call that fills
#: the time by itself is timed: a call so long leaves nothing in a cache for the next one.
WARMUP_CALLS = 2


@dataclass(frozen=True)
class Timed:
    """What was measured.

    Attributes:
        times_s: Duration of each timed call, one at least.
        joules_per_call: Energy of a call, warm-up included; None without a sensor.
    """

    times_s: list[float]
    joules_per_call: float | None


def timed(call: Callable[[], object], seconds: float, meter: PowerMeter | None = None) -> Timed:
    """Call for about so many seconds, once at least.

    Args:
        call: What to time.
        seconds: How long.
        meter: Sensor to read meanwhile, if there is one.

    Raises:
        BackendError: The sensor does not answer any more.
    """
    if meter is None:
        times_s, _ = _repeat(call, seconds)
        return Timed(times_s, None)
    with EnergyLog(meter) as log:
        times_s, calls = _repeat(call, seconds)
    return Timed(times_s, log.joules / calls)


def median_parts(seen: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each part as ``..._ms``; warm-up calls are left out."""
    counted = seen[min(WARMUP_CALLS, len(seen) - 1) :]
    return {f"{name}_ms": float(np.median([one[name] for one in counted])) for name in counted[0]}


def _repeat(call: Callable[[], object], seconds: float) -> tuple[list[float], int]:
    """Return the durations of the timed calls, and how many calls there were in all."""
    warmups_s: list[float] = []
    while len(warmups_s) < WARMUP_CALLS:
        warmups_s.append(_duration_s(call))
        if warmups_s[0] >= seconds:
            return warmups_s, 1
    times_s: list[float] = []
    begin = time.perf_counter()
    while not times_s or time.perf_counter() - begin < seconds:
        times_s.append(_duration_s(call))
    return times_s, len(warmups_s) + len(times_s)


def _duration_s(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
