"""The tables of `docs/series_comparison.py`: what is counted, averaged and claimed."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the script trains")

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "series_comparison.py"))
RATES, BASELINES = SCRIPT["RATES"], SCRIPT["BASELINES"]


def counts(right: dict[float, float], seeds=2, places=6, classes=3, each=10):
    """Confusion matrices in which a share of each class is right at each rate, all patterns."""
    made = np.zeros((seeds, places, 3 * len(RATES), classes, classes))
    for way in range(3 * len(RATES)):
        hits = round(each * right[RATES[way % len(RATES)]])
        for k in range(classes):
            made[:, :, way, k, k] = hits
            made[:, :, way, k, (k + 1) % classes] = each - hits
    return made


def test_ways_of_a_rate_are_those_of_all_patterns():
    assert SCRIPT["ways"](0.3) == [2, 7, 12] and len(SCRIPT["ways"](*RATES)) == 15


def test_mean_f1_is_that_of_the_metrics():
    from esccs_edge.training.judging.metrics import macro_f1

    rng = np.random.default_rng(0)
    matrices = rng.integers(1, 9, (4, 5, 3, 3))
    wanted = [np.mean([macro_f1(one) for one in ways]) for ways in matrices]
    np.testing.assert_allclose(SCRIPT["macro_f1"](matrices.astype(float)), wanted)
    absent = np.zeros((1, 1, 3, 3))
    absent[0, 0, :2, :2] = [[3, 0], [0, 5]]
    assert SCRIPT["macro_f1"](absent) == 1  # a class that nobody drew counts for nothing


def test_the_lead_is_over_the_mean_of_all_baselines():
    rows = {"student": counts(dict.fromkeys(RATES, 0.9))}
    rows |= {name: counts(dict.fromkeys(RATES, 0.5)) for name in BASELINES}
    rows["masks"] = counts(dict.fromkeys(RATES, 0.8))
    value, low, high = SCRIPT["gain"](rows, RATES)
    others = (0.8 + 0.5 * (len(BASELINES) - 1)) / len(BASELINES)
    assert value == pytest.approx(100 * (0.9 - others)) and low <= value <= high
    table = SCRIPT["table"](rows).splitlines()
    assert len(table) == 3 + len(BASELINES) and table[2].startswith("| **Joint-FRP** | 90.0 |")
    best, worst = SCRIPT["claims"](rows)[1:]
    assert "0.3: +10.0 (masks)" in best and best.count("masks") == 3
    assert worst.endswith("+40.0")
    rows["student"] = counts({rate: 0.4 if rate == 0 else 0.9 for rate in RATES})
    assert SCRIPT["claims"](rows)[2].endswith("-10.0")


def test_answers_are_counted_by_place_and_what_is_unknown_is_left_out(monkeypatch):
    dataset = SimpleNamespace(classes=("a", "b"), groups=("west", "west", "east"))
    samples = SimpleNamespace(dataset=dataset, indices=np.arange(3))
    said = np.eye(2)[[0, 1, 1]]
    ways = [
        SimpleNamespace(network="student", shown=shown, logits=said, labels=np.array([0, 0, 1]))
        for shown in ("optical", "optical+sar", "optical")
    ]
    ways[2].labels = np.array([-1, 1, -1])
    counted = SCRIPT["_counts"]
    monkeypatch.setitem(counted.__globals__, "answered_series", lambda *_: ways)
    found = counted({}, samples, ("optical",))["student"]
    assert found.shape == (2, 2, 2, 2)  # places by name, ways, true class, answer
    np.testing.assert_array_equal(found[0, 0], [[0, 0], [0, 1]])
    np.testing.assert_array_equal(found[1, 0], [[1, 1], [0, 0]])
    np.testing.assert_array_equal(found[:, 1].sum(axis=0), [[0, 0], [0, 1]])
