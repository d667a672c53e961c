"""Many callers, large batches, overload. Run: pytest tests/benchmarks -m load --benchmark-enable.

All is measured first; then pytest-benchmark gets the median time of a caller in each row. `make
bench` measures longer and writes the page. The suite spends a few milliseconds on each row.
"""

from __future__ import annotations

from dataclasses import asdict

import pytest

from benchmarks.load.callers import BATCHES, CALLERS, thread_counts
from benchmarks.load.measure import measure_scaling
from benchmarks.load.overload import LOADS
from benchmarks.replay import CLOCK
from esccs_edge import Bundle
from esccs_edge.system.cores import usable_cores

pytestmark = [pytest.mark.load, pytest.mark.timeout(1800), pytest.mark.benchmark(timer=CLOCK)]

SECONDS, QUICK_SECONDS = 0.5, 0.01


@pytest.fixture(scope="module")
def scaling(request):
    is_measured = request.config.getoption("benchmark_enable")
    seconds = SECONDS if is_measured else QUICK_SECONDS
    return measure_scaling(Bundle.open(), seconds=seconds, soak_calls=0)


@pytest.mark.parametrize("callers", CALLERS)
@pytest.mark.parametrize("threads", thread_counts(usable_cores()))
def test_callers_that_submit_at_once(benchmark, scaling, threads, callers):
    benchmark.group = f"callers, {threads} threads"
    row = next(r for r in scaling.callers if (r.threads, r.callers) == (threads, callers))
    CLOCK.replay(benchmark, [row.p50_ms], **asdict(row))
    assert 1 <= row.mean_batch <= callers and row.pairs_per_s > 0


@pytest.mark.parametrize("batch", BATCHES)
def test_batch_of_one_caller(benchmark, scaling, batch):
    benchmark.group = "batches"
    row = next(row for row in scaling.batches if row.batch == batch)
    CLOCK.replay(benchmark, [row.p50_ms], **asdict(row))
    assert row.p50_ms <= row.p99_ms


@pytest.mark.parametrize("load", LOADS)
def test_load_in_multiples_of_the_capacity(benchmark, scaling, load):
    benchmark.group = "load"
    row = next(row for row in scaling.overload.rows if row.load == load)
    if row.p50_ms is None:
        pytest.skip("nothing arrived in so short a time")
    CLOCK.replay(benchmark, [row.p50_ms], **asdict(row))
    assert 0 <= row.rejected < 1
