"""Is one method better than another? Crossed bootstrap over judged places and seeds.

Both methods answered the same clouded samples, so the difference is taken on the same draw. Those
of one place look alike, and every seed is judged on the same places, so places are drawn once for
all seeds and seeds beside them (two crossed factors; Owen, 2007): drawing places anew in each seed
would count a place as often as there are seeds. Several rows at once are judged by Holm (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Doubles, Labels

DRAWS = 4000
#: What was counted, summed over the places of each draw, ``(D, S, ...)`` -> the measure in each
#: draw and seed, ``(D, S)``; NaN where nothing was counted.
Measure = Callable[..., Doubles]


@dataclass(frozen=True)
class Verdict:
    """What two methods answered in one run.

    Attributes:
        labels: ``(N,)`` true classes.
        first: ``(N,)`` answers of one method.
        second: ``(N,)`` answers of the other; -1 for a method that is never right.
        places: ``(N,)`` number of the place of each pair, the same number in every run.
    """

    labels: Labels
    first: Labels
    second: Labels
    places: Labels


@dataclass(frozen=True)
class Difference:
    """A difference of a measure, mean over seeds, as shares (0.01 is one point).

    Attributes:
        value: Of the answers at hand.
        low: Lower end of the interval; None where fewer than two places were judged, which say
            nothing about others.
        high: Upper end, or None.
        p: Share of draws on the other side of zero, twice: a two-sided test of no difference.
            None as the interval is.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def crossed_difference(
    runs: Sequence[Verdict], *, draws: int = DRAWS, seed: int = 0, level: float = 0.95
) -> Difference:
    """Return the first method's balanced accuracy minus the second's, with its interval.

    Args:
        runs: One entry per seed.
        draws: Bootstrap draws.
        seed: Of the draws.
        level: Share of the draws inside the interval.
    """
    return crossed(_tables(runs), _recall_gained, draws=draws, seed=seed, level=level)


def crossed(
    counts: Sequence[Doubles], measure: Measure, *, draws: int = DRAWS, seed: int = 0,
    level: float = 0.95,
) -> Difference:  # fmt: skip
    """Return a measure, or a difference of one between two methods, with its interval.

    Args:
        counts: What the measure is made of, each ``(S, P, ...)``: counted per seed and place.
        measure: Of their sums over places.
        draws: Bootstrap draws.
        seed: Of the draws.
        level: Share of the draws inside the interval.
    """
    rng = np.random.default_rng(seed)
    runs, places = counts[0].shape[:2]
    here = _over_seeds(counts, measure, np.ones((1, places)), np.ones((1, runs)))
    if places < 2:
        return Difference(float(here[0]))
    times = rng.multinomial(places, _even(places), size=draws).astype(float)
    seeds = rng.multinomial(runs, _even(runs), size=draws).astype(float)
    drawn = _over_seeds(counts, measure, times, seeds)
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (int(beyond) + 1) / (draws + 1))
    return Difference(float(here[0]), float(low), float(high), p)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p-values that hold for all rows together: the smallest times n, the next n - 1, ..."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = highest
    return adjusted


def _tables(runs: Sequence[Verdict]) -> tuple[Doubles, Doubles]:
    """Pairs per seed, place and class ``(S, P, K)``, and right answers first minus second."""
    names = np.unique(np.concatenate([run.places for run in runs]))
    classes = 1 + max(int(run.labels.max()) for run in runs)
    totals = np.zeros((len(runs), len(names), classes))
    gains = np.zeros_like(totals)
    for number, run in enumerate(runs):
        cell = np.searchsorted(names, run.places), run.labels
        np.add.at(totals[number], cell, 1)
        right = (run.first == run.labels).astype(float) - (run.second == run.labels)
        np.add.at(gains[number], cell, right)
    return totals, gains


def _recall_gained(totals: Doubles, gains: Doubles) -> Doubles:
    """Mean over the classes that a draw holds, ``(D, S, K)`` -> ``(D, S)``."""
    recall = np.divide(gains, totals, out=np.zeros_like(gains), where=totals > 0)
    held = (totals > 0).sum(axis=2)
    found: Doubles = np.where(held > 0, recall.sum(axis=2) / np.maximum(held, 1), np.nan)
    return found


def _over_seeds(
    counts: Sequence[Doubles], measure: Measure, times: Doubles, seeds: Doubles
) -> Doubles:
    """Mean over the seeds of each draw ``(D,)``; NaN where none of them holds anything."""
    by_seed = measure(*(np.tensordot(times, part, (1, 1)) for part in counts))
    weight = seeds * ~np.isnan(by_seed)
    mean: Doubles = np.full(len(times), np.nan)
    known = weight.sum(axis=1) > 0
    total = (weight * np.nan_to_num(by_seed)).sum(axis=1)
    mean[known] = total[known] / weight.sum(axis=1)[known]
    return mean


def _even(count: int) -> npt.NDArray[np.float64]:
    return np.full(count, 1 / count)
