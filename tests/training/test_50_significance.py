"""Intervals over places and seeds, and p-values over rows, against slow twins."""

from __future__ import annotations

import numpy as np
import pytest

from esccs_edge.training.comparison.significance import Verdict, crossed_difference, holm


def drawn_verdicts(seeds=3, places=12, each=5):
    rng = np.random.default_rng(5)
    place = np.repeat(np.arange(places), each)
    labels = rng.integers(0, 3, len(place))
    found = []
    for _ in range(seeds):
        first, second = (np.where(rng.random(len(place)) < p, labels, 0) for p in (0.8, 0.5))
        found.append(Verdict(labels, first, second, place))
    return found


def balanced(labels, answers):
    return np.mean([(answers[labels == k] == k).mean() for k in np.unique(labels)])


def test_the_interval_is_that_of_a_crossed_bootstrap_written_out():
    runs = drawn_verdicts()
    found = crossed_difference(runs, draws=4000)
    rng, draws = np.random.default_rng(1), []
    for _ in range(2000):
        places, seeds = rng.integers(12, size=12), rng.integers(3, size=3)
        rows = np.concatenate([np.flatnonzero(runs[0].places == p) for p in places])
        draws.append(np.mean([
            balanced(runs[s].labels[rows], runs[s].first[rows])
            - balanced(runs[s].labels[rows], runs[s].second[rows]) for s in seeds
        ]))  # fmt: skip
    # Both ends are quantiles of thousands of draws: they differ by well under a hundredth.
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)
    here = [balanced(r.labels, r.first) - balanced(r.labels, r.second) for r in runs]
    assert found.value == pytest.approx(np.mean(here))


def test_more_seeds_on_the_same_places_do_not_shrink_the_part_of_the_places():
    """The same answers in every seed: nothing new was seen, so the interval stays."""
    (run,) = drawn_verdicts(seeds=1)
    one, many = crossed_difference([run]), crossed_difference([run] * 10)
    assert (many.low, many.high) == pytest.approx((one.low, one.high), abs=0.01)


def test_seeds_that_hold_out_other_places_are_each_judged_on_their_own():
    runs = drawn_verdicts(seeds=2)
    other = Verdict(runs[1].labels, runs[1].first, runs[1].second, runs[1].places + 100)
    found = crossed_difference([runs[0], other])
    assert found.value == pytest.approx(crossed_difference(runs).value)
    assert found.low < found.value < found.high


def test_equal_methods_differ_by_nothing_and_opposite_ones_have_mirrored_intervals():
    rng = np.random.default_rng(1)
    places, labels, first = np.arange(40), rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    same = crossed_difference([Verdict(labels, first, first, places)])
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    ahead = crossed_difference([Verdict(labels, labels, first, places)] * 3)
    behind = crossed_difference([Verdict(labels, first, labels, places)] * 3)
    assert (behind.low, behind.high) == pytest.approx((-ahead.high, -ahead.low))
    assert ahead.p == behind.p < 0.01


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    assert holm({"a": 0.5, "b": 0.6}) == {"a": 1.0, "b": 1.0}


def test_one_place_says_nothing_about_others():
    (run,) = drawn_verdicts(seeds=1, places=1)
    found = crossed_difference([run, run])
    assert found.value == pytest.approx(
        balanced(run.labels, run.first) - balanced(run.labels, run.second)
    )
    assert found.low is found.high is found.p is None
