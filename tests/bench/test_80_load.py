"""Load measurements on the hand-checkable model: what they count, and what a full queue does.

Only relations with slack are asserted; times of a busy machine mean nothing.
"""

from __future__ import annotations

import gc
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from benchmarks import page
from benchmarks.load.callers import scale_batches, scale_callers, thread_counts
from benchmarks.load.measure import measure_scaling
from benchmarks.load.overload import _arrivals, overload
from benchmarks.load.report import document, markdown, verdicts, write_report
from benchmarks.load.rows import Overload, Scaling
from benchmarks.load.soak import soak

from esccs_edge import Classifier
from esccs_edge.backends.cpu.lane import CpuLane
from esccs_edge.errors import EsccsError

HOST = {"processor": "a processor", "cores": 2, "openvino": "2025"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    from support.tiny import tiny_bundle

    return tiny_bundle(tmp_path_factory.mktemp("scaling") / "bundle")


@pytest.fixture(scope="module")
def measured(bundle) -> Scaling:
    return Scaling(
        bundle="tiny",
        seconds=0.1,
        callers=scale_callers(bundle, [1], [1, 4], seconds=0.1),
        batches=scale_batches(bundle, [1, 8], seconds=0.1),
        overload=_overload_of_a_slow_network(bundle),
        soak=soak(bundle, 5000),
    )


def _overload_of_a_slow_network(bundle) -> Overload:
    """Each batch also sleeps, so that the capacity hardly depends on who else uses the machine."""
    finish = CpuLane.finish

    def slow(lane):
        time.sleep(0.02)
        return finish(lane)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CpuLane, "finish", slow)
        return overload(bundle, [0.5, 10.0], seconds=0.4, queue_size=64)


def test_threads_double_up_to_the_number_of_cores():
    assert [thread_counts(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_callers_that_come_together_share_batches(measured):
    alone, together = measured.callers
    assert (alone.threads, alone.callers, together.callers) == (1, 1, 4)
    assert alone.mean_batch == 1 and 1 < together.mean_batch <= 4
    assert alone.p50_ms <= alone.p99_ms and alone.pairs_per_s > 0


def test_a_batch_is_answered_faster_than_its_pairs_one_by_one(measured):
    single, batch = measured.batches
    assert (single.batch, batch.batch) == (1, 8)
    assert batch.p50_ms < 8 * single.p50_ms


def test_arrivals_come_at_the_rate_asked_for_and_the_same_for_a_seed():
    arrivals = _arrivals(1000, 10, seed=3)
    assert 9000 < len(arrivals) < 11000 and arrivals[-1] < 10
    assert (np.diff(arrivals) > 0).all()
    # Exponential gaps vary as much as they are long.
    assert 0.9 < np.diff(arrivals).std() / np.diff(arrivals).mean() < 1.1
    assert (arrivals == _arrivals(1000, 10, seed=3)).all()
    assert len(_arrivals(1000, 10, seed=4)) != len(arrivals)


def test_half_the_capacity_is_answered_and_ten_times_it_keeps_most_of_the_goodput(measured):
    half, ten = measured.overload.rows
    assert half.rejected < 0.5
    assert half.goodput_per_s > 0.3 * half.offered_per_s
    assert ten.offered_per_s > half.offered_per_s
    assert ten.rejected > half.rejected
    assert ten.goodput_of_peak >= 0.5


def test_the_garbage_collector_is_left_as_it_was(measured):
    assert gc.get_freeze_count() == 0


def test_a_refusal_is_quicker_than_an_answer(bundle):
    """A queue of two cannot hold what comes in one tick, so that something is refused for sure."""
    (row,) = overload(bundle, [10.0], seconds=0.3, queue_size=2, rounds=1).rows
    assert row.rejected > 0
    assert row.reject_p50_ms < row.p50_ms


@pytest.mark.fault(97)
def test_memory_does_not_grow_with_the_calls(measured):
    run = measured.soak
    assert run.at_calls[0] == 0 and run.at_calls[-1] == run.calls == 5000
    assert len(run.at_calls) == len(run.resident_bytes)
    assert run.grown_bytes == run.resident_bytes[-1] - run.resident_bytes[0]
    assert run.bytes_per_call < 1000  # one kept pair of this model has 8704 bytes


def test_a_leak_is_seen(bundle, monkeypatch):
    kept = []
    classify = Classifier.classify

    def leaky(self, optical, sar):
        kept.append(np.ones(1000))
        return classify(self, optical, sar)

    monkeypatch.setattr(Classifier, "classify", leaky)
    run = soak(bundle, 2000)
    assert 4000 < run.bytes_per_call < 16000


def test_a_soak_of_few_calls_is_refused(bundle):
    with pytest.raises(EsccsError, match="calls is 99"):
        soak(bundle, 99)


def test_a_system_without_proc_is_refused_before_the_measurements(bundle, monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.load.soak._STATM", tmp_path / "absent")
    monkeypatch.setattr("benchmarks.load.measure.scale_callers", lambda *_, **__: pytest.fail())
    with pytest.raises(EsccsError, match="memory of the process"):
        measure_scaling(bundle, seconds=0.01, soak_calls=100)


def test_no_time_is_no_measurement(bundle):
    with pytest.raises(EsccsError, match="seconds is 0"):
        measure_scaling(bundle, seconds=0, soak_calls=0)


def test_the_page_measures_and_writes_the_files(bundle, tmp_path, capsys):
    out = tmp_path / "out"
    page.main(["--part", "load", "--bundle", str(bundle.folder), "--seconds", "0.01",
               "--soak", "100", "--out", str(out)])  # fmt: skip
    found = json.loads((out / "scaling.json").read_text())
    assert capsys.readouterr().out.strip() == (out / "scaling.md").read_text().strip()
    assert found["soak"]["calls"] == 100
    assert [row["load"] for row in found["overload"]["rows"]] == [0.5, 1.0, 2.0, 10.0]


def test_verdicts_hold_the_highest_load_against_the_targets(measured):
    goodput, *_, memory = verdicts(measured)
    assert "10 x" in goodput.target
    assert goodput.holds == (measured.overload.rows[-1].goodput_of_peak >= 0.9)
    assert memory.holds == (measured.soak.bytes_per_call < 16)
    assert "memory" not in verdicts(replace(measured, soak=None))[-1].target


def test_three_files_say_the_same(measured, tmp_path):
    from matplotlib.image import imread

    write_report(tmp_path / "out", measured, HOST)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "scaling.json", "scaling.md", "scaling.png",
    ]  # fmt: skip
    found = json.loads((tmp_path / "out" / "scaling.json").read_text())
    assert found == json.loads(json.dumps(document(measured, HOST)))
    assert found["overload"]["rows"][1]["load"] == 10.0
    page = (tmp_path / "out" / "scaling.md").read_text()
    assert f"Capacity {measured.overload.capacity_per_s:.0f} pairs/s" in page
    assert "| 10 x |" in page and "5,000 calls" in page
    with_soak = imread(tmp_path / "out" / "scaling.png")
    assert with_soak.std() > 0.01  # something is drawn
    write_report(tmp_path / "out", replace(measured, soak=None), HOST)
    assert len(imread(tmp_path / "out" / "scaling.png")) < len(with_soak)
    assert "## Memory" not in markdown(replace(measured, soak=None), HOST)
