"""Risk and coverage against hand-made numbers and a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esccs_edge.training.judging.risk_coverage import COVERAGES, risk_coverage


def test_setting_the_least_certain_aside_leaves_the_right_ones():
    confidence = np.linspace(0.99, 0.5, 20)
    found = risk_coverage(confidence, np.arange(20) < 14)
    assert found["accuracy"]["1.0"] == pytest.approx(0.7)
    assert found["accuracy"]["0.8"] == pytest.approx(14 / 16)
    assert found["accuracy"]["0.7"] == found["accuracy"]["0.5"] == 1.0
    assert found["threshold"] == pytest.approx(
        {share: confidence[max(1, round(float(share) * 20)) - 1] for share in found["accuracy"]}
    )
    assert found["threshold"]["1.0"] == 0.5
    errors = [max(0, kept - 14) / kept for kept in range(1, 21)]
    assert found["aurc"] == pytest.approx(np.mean(errors))


def test_certainty_that_says_nothing_gains_nothing_whatever_the_order():
    right = np.array([True, False] * 10)
    for order in (right, right[::-1], np.sort(right)):
        found = risk_coverage(np.full(20, 0.5), order)
        assert set(found["accuracy"].values()) == {0.5} and found["aurc"] == pytest.approx(0.5)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9]), st.booleans()), min_size=1))
def test_ties_count_as_the_mean_over_all_orders(pairs):
    confidence, right = (np.array(column) for column in zip(*pairs, strict=True))
    rng = np.random.default_rng(0)
    accuracies = []
    for _ in range(400):
        order = np.lexsort((rng.random(len(right)), -confidence))
        accuracies.append(np.cumsum(right[order]) / np.arange(1, len(right) + 1))
    mean = np.mean(accuracies, axis=0)
    found = risk_coverage(confidence, right)
    for share in COVERAGES:
        kept = max(1, round(share * len(right)))
        assert found["accuracy"][str(share)] == pytest.approx(mean[kept - 1], abs=0.1)
