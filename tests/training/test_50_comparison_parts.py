"""The parts of a comparison by hand: its queue, its summary, what its pictures name."""

from __future__ import annotations

import numpy as np
import pytest

from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.training.comparison.figures import GRAY, _styles
from esccs_edge.training.comparison.queue import Queue, WorkItem, work_off
from esccs_edge.training.comparison.recorded_answers import by_bin, rank_correlation
from esccs_edge.training.comparison.summary import summarize, summary_lines
from esccs_edge.training.judging.judge import Judged
from esccs_edge.training.methods import FAMILIES, METHODS


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


def row(method, balanced, *, deployable=True, **bins):
    by_cloud = {name: bins.get(f"b{i}", balanced) for i, name in enumerate(CLOUD_BINS)}
    return {"method": method, "balanced_accuracy_mean": balanced, "oa_mean": balanced - 0.1,
            "clear_sky_mean": balanced, "deployable": deployable, **by_cloud}  # fmt: skip


def run(temperature):
    part = {"ece": 0.02, "ece_by_chance": 0.01, "balanced_accuracy": 0.7}
    return {
        "temperature": temperature,
        "metrics": {
            "overall": part,
            "by_cloud": {name: {**part, "ece": 0.04} for name in CLOUD_BINS},
            "optical_gate": dict.fromkeys(CLOUD_BINS, 0.5),
            "gate_rank_correlation": -1.0,
            "sar_absent": {"overall": part},
            "optical_absent": {"overall": part},
        },
    }


def test_the_summary_by_hand():
    rows = [
        row("source-only", 0.5),
        row("kd-s", 0.6, b3=0.85),
        row("gdl", 0.7),
        row("qmf", 0.79),
        row("optical-auxiliary", 0.65),
        row("esccs", 0.8),
        row("supervised-fusion", 0.9, deployable=False),
        row("clear-teacher", 0.95, deployable=False),
    ]
    answers = Judged(np.array([0, 1]), np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0.1, 0.9]))
    found = summarize(rows, {"esccs": [run(1.0), run(2.0)]}, [answers, answers])
    assert found["lead"] == pytest.approx({"kd-s": 0.2, "gdl": 0.1})
    assert found["lead_mean"] == pytest.approx(0.15)
    assert found["lead_oa_mean"] == pytest.approx(0.15)
    assert found["gap_closed"] == pytest.approx(0.75)
    worst = found["worst_bin"]
    assert (worst["bin"], worst["method"]) == (CLOUD_BINS[3], "kd-s")
    assert worst["deficit"] == pytest.approx(0.05)
    assert found["clear_sky"] == pytest.approx(-0.15)
    calibration = dict(found["calibration"])
    together = calibration.pop("together")
    assert together["ece"] == pytest.approx((0.2 + 0.6) / 2)  # right at 0.8, wrong at 0.6
    assert together["ece_cloudiest"] == pytest.approx(0.6)
    assert calibration == pytest.approx(
        {"temperature": 1.5, "ece": 0.02, "ece_cloudiest": 0.04,
         "ece_by_chance": 0.01, "ece_by_chance_cloudiest": 0.01}
    )  # fmt: skip
    assert found["gate"]["rank_correlation"] == -1
    assert found["sar_absent"]["difference"] == pytest.approx(0.05)
    assert "optical_absent" not in found  # the SAR auxiliary was not run
    text = "\n".join(summary_lines(found))
    for said in ("leads the 2", "+15.0 points", "gdl, by +10.0", "75%", "-5.0 points", "kd-s"):
        assert said in text


def test_a_comparison_without_esccs_has_no_summary():
    assert summarize([row("kd-s", 0.6)], {"kd-s": [run(1.0)]}, []) == {}
    assert summary_lines({}) == []


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
    best = {"gdl", "g2d", "qmf-cloud-aware", "esccs-ogm"}
    for name in best:
        accuracy[name] = accuracy[name] + 0.4
    styles = _styles(accuracy)
    named = {name for name, style in styles.items() if style["color"] != GRAY["color"]}
    assert named == best | {"esccs", "source-only", "supervised-fusion"}
    assert sum(style["label"] == "others" for style in styles.values()) == 1
    assert len({style["color"] for style in styles.values()}) == len(named) + 1
    assert len(best) == len(FAMILIES)
