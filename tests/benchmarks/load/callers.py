"""How answers per second grow: with threads, with callers that submit at once, and with the batch.

Pixels are random; only time is measured here. `overload` shows what happens beyond the capacity,
`soak` what a long run costs in memory; `measure` runs all three.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from esccs_edge.bench.pixels import timed_samples
from esccs_edge.classifier import Classifier
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.values import PatchPair
from esccs_edge.runtime.counters import percentiles_ms

from .rows import BatchRow, CallersRow, Progress, no_progress

CALLERS = (1, 2, 4, 8, 16, 32, 64)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
#: Different pairs that are sent around and around, so that no cache holds all there is to read.
PAIRS = 64


def thread_counts(cores: int) -> list[int]:
    """Return 1, 2, 4, ... and the number of cores itself."""
    return sorted(
        {cores, *(1 << power for power in range(cores.bit_length()))} & {*range(cores + 1)}
    )


def scale_callers(
    bundle: Bundle,
    threads: Sequence[int],
    callers: Sequence[int] = CALLERS,
    *,
    seconds: float,
    progress: Progress = no_progress,
) -> list[CallersRow]:
    """Measure every number of threads with every number of callers, on the CPU.

    Args:
        bundle: The model.
        threads: Numbers of CPU threads to give the classifier.
        callers: Numbers of threads that submit.
        seconds: Time spent on each combination.
        progress: Called with combinations done and in all.
    """
    rows: list[CallersRow] = []
    for count in threads:
        with Classifier(bundle, "cpu", threads=count) as classifier:
            pairs = timed_samples(classifier.manifest, PAIRS)
            classifier.warmup()
            for number in callers:
                progress(len(rows), len(threads) * len(callers))
                rows.append(_call_at_once(classifier, pairs, count, number, seconds))
    progress(len(rows), len(rows))
    return rows


def scale_batches(
    bundle: Bundle,
    batches: Sequence[int] = BATCHES,
    *,
    seconds: float,
    progress: Progress = no_progress,
) -> list[BatchRow]:
    """Measure `Classifier.classify_batch` at each batch size, on all cores of the CPU."""
    rows: list[BatchRow] = []
    with Classifier(bundle, "cpu", max_batch=max(batches)) as classifier:
        pairs = timed_samples(classifier.manifest, max(batches))
        for batch in batches:
            progress(len(rows), len(batches))
            opticals, sars = zip(*(pair.pixels.values() for pair in pairs[:batch]), strict=True)
            classifier.classify_batch(opticals, sars)
            times_s: list[float] = []
            begin = time.perf_counter()
            while not times_s or time.perf_counter() - begin < seconds:
                start = time.perf_counter()
                classifier.classify_batch(opticals, sars)
                times_s.append(time.perf_counter() - start)
            rate = batch * len(times_s) / sum(times_s)
            rows.append(BatchRow(batch, rate, *percentiles_ms(times_s, (50, 99)).values()))
    progress(len(rows), len(rows))
    return rows


def _call_at_once(
    classifier: Classifier, pairs: Sequence[PatchPair], threads: int, callers: int, seconds: float
) -> CallersRow:
    all_ready = threading.Barrier(callers + 1)

    def call(number: int) -> list[float]:
        times_s: list[float] = []
        all_ready.wait()
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end or not times_s:
            pair = pairs[(number + len(times_s)) % len(pairs)]
            classifier.submit(**pair.pixels).result()
            times_s.append(time.perf_counter() - start)
        return times_s

    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call, number) for number in range(callers)]
        batches = -classifier.stats().batches
        all_ready.wait()
        begin = time.perf_counter()
        times_s = [took_s for done in calls for took_s in done.result()]
        wall_s = time.perf_counter() - begin
    batches += classifier.stats().batches
    p50, p99 = percentiles_ms(times_s, (50, 99)).values()
    return CallersRow(threads, callers, len(times_s) / wall_s, p50, p99, len(times_s) / batches)
