"""This package beside other runtimes. Run: pytest tests/benchmarks -m peers --benchmark-enable.

All peers are measured first, a process each, in turns; then pytest-benchmark gets the median of
each round. `make bench` measures more sizes and writes the page. The suite runs one short round.
"""

from __future__ import annotations

from dataclasses import asdict

import pytest

from benchmarks.peers import OURS, PEERS
from benchmarks.peers.comparison import Plan, compare
from benchmarks.replay import CLOCK
from esccs_edge import Bundle

pytestmark = [pytest.mark.peers, pytest.mark.timeout(1800)]

BATCHES = (1, 32)
#: Compiling takes longer than all the rest; `tests/bench/test_80_peers.py` tries it too.
QUICK_PEERS = tuple(name for name in PEERS if name != "torch-compile")
#: Peers that are as fast as ours must not look twice as fast because of noise on a busy host.
SLACK = 2.0


@pytest.fixture(scope="module")
def compared(request):
    if request.config.getoption("benchmark_enable"):
        plan = Plan(tuple(PEERS), batches=BATCHES, backend="cpu")
    else:
        plan = Plan(QUICK_PEERS, batches=BATCHES, threads=(1,), seconds=0.0, rounds=1, starts=0,
                    backend="cpu")  # fmt: skip
    return compare(Bundle.open(), plan)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", PEERS)
def test_the_shipped_student_in_each_runtime(benchmark, compared, name, batch):
    row = next((row for row in compared.rows if (row.peer, row.batch) == (name, batch)), None)
    if row is None:
        absent = {row["peer"]: row["reason"] for row in compared.absent}
        pytest.skip(absent.get(name, f"{name}: only with --benchmark-enable"))
    against = next(r for r in compared.comparisons if (r.peer, r.batch) == (name, batch))
    benchmark.group = f"{row.patch} x {row.patch} pixels, batches of {batch}"
    CLOCK.replay(benchmark, row.rounds_ms, **asdict(row), times_ours=against.ratio)
    agreed = next(row["labels"] for row in compared.agreement if row["peer"] == name)
    assert agreed == 1 or name != OURS


def test_no_other_runtime_is_much_faster_on_the_same_student():
    peers = ("onnxruntime-fp32", "openvino-int8", "openvino-fp32")
    plan = Plan(peers, batches=(32,), threads=(1,), seconds=0.5, starts=0, backend="cpu")
    found = compare(Bundle.open(), plan)
    assert {row.peer: row.ratio for row in found.comparisons if row.ratio < 1 / SLACK} == {}
