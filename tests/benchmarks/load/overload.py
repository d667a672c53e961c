"""What a classifier does when more is asked of it than it can answer.

Requests arrive at random times that do not wait for answers (an open loop), as those of
independent clients do. A healthy queue refuses what it cannot take, at once, and goes on answering
the rest as fast as before.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import numpy.typing as npt

from esccs_edge.bench.pixels import timed_samples
from esccs_edge.classifier import Classifier
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.values import PatchPair, Prediction
from esccs_edge.errors import Overloaded
from esccs_edge.runtime.counters import percentiles_ms

from .callers import PAIRS
from .rows import LoadRow, Overload, Progress, no_progress

#: Offered load in multiples of the capacity.
LOADS = (0.5, 1.0, 2.0, 10.0)
#: Each round measures the capacity anew and is judged against it; the median of the rounds counts,
#: so that another program's burst of work does not decide.
ROUNDS = 3
MAX_BATCH = 32
LANES = 2
#: Shortest sleep between arrivals: waking up ten thousand times a second would cost the machine
#: more than the requests do. Latencies count from the call of ``submit``, not from the due time.
TICK_S = 1e-3


def overload(
    bundle: Bundle,
    loads: Sequence[float] = LOADS,
    *,
    seconds: float,
    queue_size: int = 256,
    rounds: int = ROUNDS,
    progress: Progress = no_progress,
) -> Overload:
    """Measure the capacity, then offer multiples of it, on all cores of the CPU.

    Args:
        bundle: The model.
        loads: Multiples of the capacity.
        seconds: Time spent on the capacity and on each load, in each round.
        queue_size: Most requests that wait.
        rounds: How often all is measured.
        progress: Called with measurements done and in all.
    """
    capacities: list[float] = []
    measured: list[list[LoadRow]] = []
    steps = itertools.count()
    total = rounds * (1 + len(loads))
    with Classifier(
        bundle, "cpu", max_batch=MAX_BATCH, lanes=LANES, queue_size=queue_size
    ) as classifier:
        pairs = timed_samples(classifier.manifest, PAIRS)
        classifier.warmup()
        with _start_frozen():
            for seed in range(rounds):
                progress(next(steps), total)
                capacity = _capacity(classifier, pairs, queue_size // 2, seconds)
                seen: list[_Seen] = []
                for load in loads:
                    progress(next(steps), total)
                    arrivals = _arrivals(load * capacity, seconds, seed)
                    seen.append(_offer(classifier, pairs, arrivals, seconds))
                peak = max(capacity, *(one.goodput_per_s for one in seen))
                measured.append(
                    [_row(load, capacity, one, peak) for load, one in zip(loads, seen, strict=True)]
                )
                capacities.append(capacity)
    progress(total, total)
    capacity = statistics.median(capacities)
    return Overload(
        capacity_per_s=capacity,
        bound_ms=(queue_size + LANES * MAX_BATCH) / capacity * 1e3,
        rows=[_median(rows) for rows in zip(*measured, strict=True)],
    )


@contextmanager
def _start_frozen() -> Iterator[None]:
    """Do as the documentation advises programs that must answer in time.

    Otherwise Python searches everything that was loaded at the start for garbage, again and again,
    and stops all threads meanwhile.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass(frozen=True)
class _Seen:
    """What one load brought in one round; the answers counted came while requests arrived."""

    accepted_s: list[float]
    rejected_s: list[float]
    offered_per_s: float
    client_cores: float
    goodput_per_s: float


def _capacity(
    classifier: Classifier, pairs: Sequence[PatchPair], requests: int, seconds: float
) -> float:
    """Return answers per second while so many requests are kept under way."""
    free = threading.Semaphore(requests)
    ledger = _Ledger()
    begin = time.perf_counter()
    for pair in itertools.cycle(pairs):
        free.acquire()
        if ledger.entered and time.perf_counter() - begin >= seconds:
            break
        future = ledger.enter(classifier.submit(**pair.pixels), time.perf_counter())
        future.add_done_callback(lambda _: free.release())
    ledger.settle()
    return ledger.entered / (time.perf_counter() - begin)


def _arrivals(per_s: float, seconds: float, seed: int) -> npt.NDArray[np.float64]:
    """Return the times of a Poisson process up to ``seconds``."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / per_s, round(per_s * seconds * 1.5) + 10)
    times = np.cumsum(gaps)
    return times[times < seconds]


def _offer(
    classifier: Classifier,
    pairs: Sequence[PatchPair],
    arrivals: npt.NDArray[np.float64],
    seconds: float,
) -> _Seen:
    """Submit at the given times, or as soon after as this thread can, until the time is over."""
    ledger = _Ledger()
    rejected_s: list[float] = []
    begin, begin_cpu = time.perf_counter(), time.thread_time()
    for arrival, pair in zip(arrivals.tolist(), itertools.cycle(pairs)):
        if (early_s := begin + arrival - time.perf_counter()) > 0:
            time.sleep(max(early_s, TICK_S))
        start = time.perf_counter()
        if start - begin >= seconds:
            break
        try:
            future = classifier.submit(**pair.pixels)
        except Overloaded:
            rejected_s.append(time.perf_counter() - start)
        else:
            ledger.enter(future, start)
    took_s = time.perf_counter() - begin
    client_cores = (time.thread_time() - begin_cpu) / took_s
    goodput_per_s = len(ledger.ages_s) / took_s
    ledger.settle()
    offered_per_s = (ledger.entered + len(rejected_s)) / took_s
    return _Seen(ledger.ages_s, rejected_s, offered_per_s, client_cores, goodput_per_s)


class _Ledger:
    """Futures under way and the ages at which they were answered.

    Those that are answered are not kept, as a client does not keep what it has read: with thousands
    of them, Python's garbage collector would stop every thread for tens of milliseconds.
    """

    def __init__(self) -> None:
        self.entered = 0
        self.ages_s: list[float] = []
        self._open: set[Future[Prediction]] = set()
        self._errors: list[BaseException] = []

    def enter(self, future: Future[Prediction], start_s: float) -> Future[Prediction]:
        """Watch a future whose request was made at ``start_s``."""
        self.entered += 1
        self._open.add(future)
        future.add_done_callback(partial(self._close, start_s))
        return future

    def settle(self) -> None:
        """Wait for all; an error is no answer: the measurement ends with it."""
        for future in self._open.copy():
            future.result()
        for error in self._errors:
            raise error

    def _close(self, start_s: float, future: Future[Prediction]) -> None:
        self.ages_s.append(time.perf_counter() - start_s)
        self._open.discard(future)
        if (error := future.exception()) is not None:
            self._errors.append(error)


def _row(load: float, capacity: float, seen: _Seen, peak: float) -> LoadRow:
    reject_p50, reject_p99 = _percentiles_ms(seen.rejected_s)
    p50, p99 = _percentiles_ms(seen.accepted_s)
    return LoadRow(
        load=load,
        asked_per_s=load * capacity,
        offered_per_s=seen.offered_per_s,
        client_cores=seen.client_cores,
        goodput_per_s=seen.goodput_per_s,
        goodput_of_peak=seen.goodput_per_s / peak,
        rejected=len(seen.rejected_s) / max(len(seen.rejected_s) + len(seen.accepted_s), 1),
        reject_p50_ms=reject_p50,
        reject_p99_ms=reject_p99,
        p50_ms=p50,
        p99_ms=p99,
    )


def _percentiles_ms(times_s: Sequence[float]) -> tuple[float | None, float | None]:
    if not times_s:
        return None, None
    p50, p99 = percentiles_ms(times_s, (50, 99)).values()
    return p50, p99


def _median(rows: Sequence[LoadRow]) -> LoadRow:
    """Return the median of each field over the rounds that have one."""
    medians: dict[str, float | None] = {}
    for field in fields(LoadRow):
        known = [value for row in rows if (value := getattr(row, field.name)) is not None]
        medians[field.name] = statistics.median(known) if known else None
    return LoadRow(**medians)  # type: ignore[arg-type]
