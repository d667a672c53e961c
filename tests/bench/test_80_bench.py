"""Timing a bundle on this machine: rows, parts, cold start, energy, and what is written of them."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner
from support.power_meters import Steady

from esccs_edge.bench import measure
from esccs_edge.bench.measure import Plan, bench
from esccs_edge.bench.start import time_starts
from esccs_edge.bench.timing import median_parts, timed
from esccs_edge.cli import main
from esccs_edge.errors import BackendError, InputError

#: Enough rows to see that all is there; no time of such a run means anything.
QUICK = {"batches": (1, 3), "threads": (1,), "seconds": 0.0, "starts": 1, "backend": "cpu"}


def test_a_round_leaves_out_its_warm_up_unless_one_call_fills_it():
    calls = []
    found = timed(lambda: calls.append(1), 0.0)
    assert len(found.times_s) == len(calls) == 1
    found = timed(lambda: calls.append(1), 0.01)
    assert len(found.times_s) == len(calls) - 3
    found = timed(lambda: time.sleep(0.02), 0.01)
    assert len(found.times_s) == 1 and found.times_s[0] >= 0.02


def test_parts_leave_out_the_warm_up():
    seen = [{"preprocess": value} for value in (100.0, 100.0, 1.0, 3.0, 2.0)]
    assert median_parts(seen) == {"preprocess_ms": 2.0}
    assert median_parts(seen[:1]) == {"preprocess_ms": 100.0}


def test_energy_is_divided_by_all_calls_and_absent_without_a_sensor():
    calls = []
    found = timed(lambda: (calls.append(1), time.sleep(0.001)), 0.02, Steady(8.0))
    assert len(calls) == len(found.times_s) + 2
    assert found.joules_per_call >= 8.0 * sum(found.times_s) / len(calls)
    assert timed(lambda: None, 0.0).joules_per_call is None


def test_bench_times_rows_parts_and_the_start(bundle):
    found = bench(bundle, Plan(**QUICK))
    assert [(row.batch, row.threads) for row in found.rows] == [(1, 1), (3, 1)]
    for row in found.rows:
        assert 0 < row.p50_ms <= row.p90_ms <= row.p99_ms and row.calls >= 1
    for spent in found.parts:
        assert spent.preprocess_ms > 0 and spent.postprocess_ms > 0
        assert (spent.queue_ms is not None) == (spent.batch == 1)
    assert 0 < found.start.import_ms < found.start.cold_start_ms and found.start.peak_rss_mb > 10
    assert found.backend["backend"]["backend"] == "cpu"


def test_bench_reports_energy_where_a_meter_is_found(bundle, monkeypatch):
    monkeypatch.setattr(measure, "find_meter", lambda gpu: Steady(5.0) if gpu is None else None)
    found = bench(bundle, Plan(**QUICK))
    assert found.energy == "steady"
    assert all(row.joules_per_pair > 0 for row in found.rows)


def test_a_backend_that_does_not_exist_is_refused(bundle):
    with pytest.raises(InputError, match="nonsense"):
        bench(bundle, Plan(**{**QUICK, "backend": "nonsense"}))


def test_a_start_that_fails_gives_its_reason(tmp_path):
    with pytest.raises(BackendError, match="a fresh process gave no answer: .*nowhere"):
        time_starts(tmp_path / "nowhere", 1, backend="cpu", threads=1)


@pytest.mark.parametrize("wrong", [{"batches": ()}, {"batches": (0,)}, {"threads": (0,)}])
def test_a_plan_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError):
        Plan(**wrong)


def test_out_holds_the_document_and_a_page(bundle, tmp_path):
    out = tmp_path / "out"
    arguments = ["bench", "--bundle", bundle.folder, "--backend", "cpu", "--batch", 1, "--batch", 2,
                 "--seconds", 0, "--threads", 1, "--out", out, "--json"]  # fmt: skip
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert json.loads((out / "bench.json").read_text()) == document
    assert document["plan"]["seconds"] == 0 and str(bundle.folder) not in result.stdout
    page = (out / "bench.md").read_text()
    assert "### Parts" in page and "cold start" in page
    for line in page.splitlines():
        assert line.count("|") in (0, 7, 9)
