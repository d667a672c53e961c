"""The parts of a comparison by hand: its queue, its summary, what its pictures name."""

from __future__ import annotations

import time

import numpy as np
import pytest
from support.work import fail_beside_one_that_never_ends

from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.training.comparison.choosing import choosing_bound
from esccs_edge.training.comparison.figures import GRAY, _styles
from esccs_edge.training.comparison.queue import Queue, WorkItem, work_off
from esccs_edge.training.comparison.recorded_answers import (
    RecordedAnswers,
    by_bin,
    rank_correlation,
)
from esccs_edge.training.comparison.summary import summarize, summary_lines
from esccs_edge.training.judging.judge import Judged
from esccs_edge.training.methods import FAMILIES, METHODS
from esccs_edge.training.methods.told import told
from esccs_edge.training.options_file import options_from


def test_a_process_stays_on_its_seed_and_helps_when_no_seed_is_left():
    queue = Queue({0: ["a", "b"], 1: [], 2: ["a", "b", "c"]})
    first, second = queue.take(), queue.take()
    assert (first, second) == (WorkItem(0, None), WorkItem(2, None))
    assert queue.take() is None  # no method may run before the shared networks of its seed
    queue.finish(second)
    assert queue.take(0) == WorkItem(2, "a")
    queue.finish(first)
    assert queue.take(0) == WorkItem(0, "a")
    assert queue.take(2) == WorkItem(2, "b")
    assert queue.take(0) == WorkItem(0, "b")
    assert queue.take(0) == WorkItem(2, "c")
    assert queue.take(0) is None


def test_all_tasks_are_done_once_and_shared_networks_first():
    done = []
    work_off({3: ["a", "b"], 4: ["a"]}, done.append, jobs=1)
    assert done == [
        WorkItem(3, None),
        WorkItem(3, "a"),
        WorkItem(3, "b"),
        WorkItem(4, None),
        WorkItem(4, "a"),
    ]


def test_an_error_in_a_process_ends_the_comparison():
    with pytest.raises(TypeError, match="'WorkItem'"):
        work_off({0: ["a", "b"], 1: ["a"]}, int, jobs=2)  # a task is no number


def test_a_failure_does_not_wait_for_the_work_of_other_processes():
    started_s = time.monotonic()
    with pytest.raises(RuntimeError, match="seed 0"):
        work_off({0: ["a"], 1: ["a"]}, fail_beside_one_that_never_ends, jobs=2)
    assert time.monotonic() - started_s < 120


def row(method, balanced, *, deployable=True, **bins):
    by_cloud = {name: bins.get(f"b{i}", balanced) for i, name in enumerate(CLOUD_BINS)}
    return {"method": method, "balanced_accuracy_mean": balanced, "oa_mean": balanced - 0.1,
            "clear_sky_mean": balanced, "deployable": deployable, **by_cloud}  # fmt: skip


def run(temperature, simulated=("clouds",)):
    part = {"ece": 0.02, "ece_by_chance": 0.01, "balanced_accuracy": 0.7}
    return {
        "temperature": temperature,
        "simulated": list(simulated),
        "metrics": {
            "overall": part,
            "by_cloud": {name: {**part, "ece": 0.04} for name in CLOUD_BINS},
            "optical_gate": dict.fromkeys(CLOUD_BINS, 0.5),
            "gate_rank_correlation": -1.0,
            "gate_rank_correlation_over_pairs": -0.5,
            "sar_absent": {"overall": part},
            "optical_absent": {"overall": part},
        },
    }


def answers(right, count=40, places=8):
    """Answers of one seed, of which a share is right in each place; both classes in turn."""
    labels = np.tile([0, 1], count // 2)
    predicted = np.where(np.arange(count) % 10 < 10 * right, labels, 1 - labels)
    judged = Judged(labels, np.eye(2)[predicted], np.linspace(0.05, 0.95, count))
    return RecordedAnswers(judged, np.arange(count) % places, None)


def test_the_summary_by_hand():
    shares = {
        "source-only": 0.5, "kdhn-cloud-aware": 0.6, "qmf-cloud-aware": 0.7,
        "optical-auxiliary": 0.65, "esccs": 0.8, "supervised-fusion": 0.9, "clear-teacher": 0.95,
    }  # fmt: skip
    rows = [row(name, share) for name, share in shares.items()]
    rows[1][CLOUD_BINS[3]] = 0.85
    told_of = {name: told(METHODS[name].gifts, options_from({})) for name in shares}
    recorded = {name: [answers(share)] * 2 for name, share in shares.items()}
    found = summarize(rows, {"esccs": [run(1.0), run(2.0)]}, recorded, told_of)
    headline = found["headline"]
    assert (headline["reference"], headline["best"]) == ("esccs", "qmf-cloud-aware")
    assert headline["rivals"]["kdhn-cloud-aware"]["value"] == pytest.approx(0.2)
    assert headline["rivals"]["qmf-cloud-aware"]["value"] == pytest.approx(0.1)
    assert headline["mean_lead"] == pytest.approx(0.15)
    best = headline["rivals"]["qmf-cloud-aware"]
    assert best["low"] <= 0.1 <= best["high"] and best["p_holm"] >= best["p"]
    assert "as_drawn" not in found  # its reference was not run
    assert found["gap_closed"] == pytest.approx(0.75)
    worst = found["worst_bin"]
    assert (worst["bin"], worst["method"]) == (CLOUD_BINS[3], "kdhn-cloud-aware")
    assert worst["deficit"] == pytest.approx(0.05)
    assert found["clear_sky"] == pytest.approx(-0.15)
    assert found["calibration"] == pytest.approx(
        {"temperature": 1.5, "ece": 0.02, "ece_cloudiest": 0.04,
         "ece_by_chance": 0.01, "ece_by_chance_cloudiest": 0.01}
    )  # fmt: skip
    assert found["gate"]["rank_correlation"] == -1
    assert found["gate"]["cover"].startswith("as simulated")
    real = summarize(rows, {"esccs": [run(1.0, ())]}, recorded, told_of)
    assert real["gate"]["cover"] == "of real masks"
    assert found["sar_absent"]["difference"] == pytest.approx(0.05)
    assert "optical_absent" not in found  # the SAR auxiliary was not run
    text = "\n".join(summary_lines(found))
    for said in ("among 2 rows", "+10.0 [", "best, qmf-cloud-aware", "+15.0", "75%", "-5.0 points"):
        assert said in text


def test_a_comparison_without_a_reference_has_no_summary():
    assert summarize([row("kd-s", 0.6)], {"kd-s": [run(1.0)]}, {}, {}) == {}
    assert summary_lines({}) == []


def test_a_perfect_choice_between_the_auxiliaries_by_hand():
    labels = np.array([0, 1, 0, 1])
    cover = np.array([0.1, 0.1, 0.9, 0.9])

    def half(*predicted):
        judged = Judged(labels, np.eye(2)[list(predicted)], cover)
        return RecordedAnswers(judged, np.arange(4), None)

    recorded = {"optical-auxiliary": [half(0, 1, 1, 0)], "sar-auxiliary": [half(0, 0, 0, 0)]}
    found = choosing_bound(recorded)
    assert found["all"] == {"one_right": 0.5, "best": 0.5, "oracle": 0.75}
    assert found[CLOUD_BINS[0]] == {"one_right": 0.5, "best": 1.0, "oracle": 1.0}
    assert set(found) == {CLOUD_BINS[0], CLOUD_BINS[-1], "all"}
    assert choosing_bound({"sar-auxiliary": []}) == {}


def test_means_by_bin_and_their_rank_correlation_by_hand():
    cover = np.array([0.1, 0.15, 0.5, 1.0, np.nan])
    weights = by_bin(np.array([0.9, 0.7, 0.5, 0.1, 0.0]), cover)
    assert weights == pytest.approx([0.8, None, 0.5, None, 0.1])
    assert rank_correlation(weights) == pytest.approx(-1)
    assert rank_correlation([0.1, 0.4, 0.2, 0.9, 0.8]) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert rank_correlation([0.1, None, 0.2, None, None]) is None


def test_pictures_name_the_best_of_each_family_and_leave_the_rest_gray():
    rng = np.random.default_rng(0)
    accuracy = {name: rng.uniform(0.2, 0.6, (2, 5)) for name in METHODS}
    best = {"gdl", "g2d", "esccs-paper", "qmf-cloud-aware", "esccs-hard"}
    for name in best:
        accuracy[name] = accuracy[name] + 0.4
    styles = _styles(accuracy)
    named = {name for name, style in styles.items() if style["color"] != GRAY["color"]}
    assert named == best | {"esccs", "source-only", "supervised-fusion"}
    assert sum(style["label"] == "others" for style in styles.values()) == 1
    assert len({style["color"] for style in styles.values()}) == len(named) + 1
    assert len(best) == len(FAMILIES)
