"""How fast a bundle answers on this machine: latency, throughput by batch, parts, cold start.

Pixels are those of `timed_samples`; only time is measured here, never accuracy. `esccs-edge bench`
prints it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..any_task import open_model
from ..contracts.bundle import Bundle
from ..contracts.bundle_files import Precision
from ..contracts.types import Progress
from ..contracts.values import Sample
from ..errors import InputError
from ..power import PowerMeter, find_meter
from ..runtime.counters import percentiles_ms
from ..runtime.model import ModelRuntime
from .calls import CpuParts, answers, described, queue_ms, runs_on_cpu
from .host import host
from .pixels import timed_samples
from .rows import BenchResult, Parts, Timing
from .start import time_starts
from .timing import median_parts, timed

BATCHES = (1, 8, 32)
SECONDS = 1.0
STARTS = 2
#: Most pairs in one batch of the network, as with default settings; larger calls
#: are answered in several batches.
MAX_BATCH = 32
#: Share of a row's time that is spent again on its parts.
PARTS_SHARE = 0.2


@dataclass(frozen=True)
class Plan:
    """What to time.

    Attributes:
        batches: Pairs per call.
        threads: Numbers of CPU threads; None is all.
        seconds: Time spent on each row; at least one call is made.
        backend: As `open_model` takes it.
        precision: As `open_model` takes it.
        starts: Fresh processes that are timed.

    Raises:
        InputError: There is no batch, or a number is too small.
    """

    batches: Sequence[int] = BATCHES
    threads: Sequence[int | None] = (None,)
    seconds: float = SECONDS
    backend: str = "auto"
    precision: Precision = "auto"
    starts: int = STARTS

    def __post_init__(self) -> None:
        given = [number for number in self.threads if number is not None]
        if not self.batches or min(*self.batches, self.starts, *given) < 1:
            raise InputError(f"{self} has no batch or a number that is too small")


def bench(
    bundle: Bundle, plan: Plan | None = None, *, progress: Progress = lambda done, total: None
) -> BenchResult:
    """Time a bundle.

    Args:
        bundle: The model.
        plan: What to time; None takes the defaults.
        progress: Called with steps done and in all; a step is a row or the cold start.

    Raises:
        BackendError: The model does not run here, or a power sensor failed.
    """
    plan = plan or Plan()
    machine = host()
    total = len(plan.threads) * len(plan.batches) + 1
    rows: list[Timing] = []
    parts: list[Parts] = []
    samples = timed_samples(bundle.manifest, max(plan.batches))
    for threads in plan.threads:
        # No waiting for others, so that what `submit` costs is the queue and nothing else.
        with open_model(
            bundle, plan.backend, MAX_BATCH, 0.0, threads=threads, precision=plan.precision
        ) as model:
            backend = described(model)
            meter = find_meter(gpu=None if runs_on_cpu(model) else 0)
            for batch in plan.batches:
                progress(len(rows), total)
                rows.append(_time_row(model, samples[:batch], threads, plan.seconds, meter))
            if runs_on_cpu(model):
                small = [samples[:batch] for batch in plan.batches if batch <= MAX_BATCH]
                lane = CpuParts(bundle, MAX_BATCH, threads, plan.precision)
                parts += _time_parts(model, lane, small, threads, plan.seconds * PARTS_SHARE)
    progress(len(rows), total)
    options = {"backend": plan.backend, "threads": plan.threads[0], "precision": plan.precision}
    start = time_starts(bundle.folder, plan.starts, **options)
    progress(total, total)
    return BenchResult(rows, parts, start, backend, machine, meter.name if meter else None)


def _time_row(
    model: ModelRuntime[Any],
    samples: Sequence[Sample],
    threads: int | None,
    seconds: float,
    meter: PowerMeter | None,
) -> Timing:
    batch = len(samples)
    found = timed(lambda: answers(model, samples), seconds, meter)
    spread = {f"{name}_ms": value for name, value in percentiles_ms(found.times_s).items()}
    joules = None if found.joules_per_call is None else found.joules_per_call / batch
    rate = batch * 1e3 / spread["p50_ms"]
    return Timing(
        batch, threads, **spread, pairs_per_s=rate, calls=len(found.times_s), joules_per_pair=joules
    )


def _time_parts(
    model: ModelRuntime[Any],
    lane: CpuParts,
    batches: Sequence[Sequence[Sample]],
    threads: int | None,
    seconds: float,
) -> list[Parts]:
    rows = []
    try:
        for samples in batches:
            seen: list[dict[str, float]] = []
            timed(lambda: seen.append(lane.spent_ms(samples)), seconds)  # noqa: B023 - called at once
            medians = median_parts(seen)
            queue = queue_ms(model, samples[0]) if len(samples) == 1 else None
            rows.append(Parts(len(samples), threads, **medians, queue_ms=queue))
    finally:
        lane.close()
    return rows
