"""Is one method better than another? Paired bootstrap over judged places and seeds.

Both methods answered the same clouded pairs, so the difference is taken on the same draw. Pairs of
one place look alike and each stands there once per cloud bin, so whole places are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Labels

DRAWS = 2000


@dataclass(frozen=True)
class Verdict:
    """What two methods answered in one run.

    Attributes:
        labels: ``(N,)`` true classes.
        first: ``(N,)`` answers of one method.
        second: ``(N,)`` answers of the other.
        places: ``(N,)`` number of the place of each pair.
    """

    labels: Labels
    first: Labels
    second: Labels
    places: Labels


def difference_interval(
    runs: Sequence[Verdict], *, draws: int = DRAWS, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the first method's balanced accuracy minus the second's, mean over seeds.

    Seeds are drawn with replacement, then places within each drawn seed; percentiles of the mean
    difference over all draws.

    Args:
        runs: One entry per seed.
        draws: Bootstrap draws.
        seed: Of the draws.
        level: Share of the draws inside.

    Returns:
        Lower and upper end, as shares (0.01 is one point).
    """
    rng = np.random.default_rng(seed)
    counted = [_counts(run) for run in runs]
    differences = np.stack([_differences(*counts, draws, rng) for counts in counted])
    chosen = rng.integers(len(runs), size=(len(runs), draws))
    means = np.take_along_axis(differences, chosen, axis=0).mean(axis=0)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _counts(run: Verdict) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Pairs per place and class ``(P, K)``, and right answers first minus second ``(P, K)``."""
    _, place = np.unique(run.places, return_inverse=True)
    shape = int(place.max()) + 1, int(run.labels.max()) + 1
    totals, gains = np.zeros(shape), np.zeros(shape)
    np.add.at(totals, (place, run.labels), 1)
    right = (run.first == run.labels).astype(float) - (run.second == run.labels)
    np.add.at(gains, (place, run.labels), right)
    return totals, gains


def _differences(
    totals: npt.NDArray[np.float64],
    gains: npt.NDArray[np.float64],
    draws: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Difference of balanced accuracy in each draw of places, over the classes it holds."""
    places = len(totals)
    times = rng.multinomial(places, np.full(places, 1 / places), size=draws).astype(float)
    total, gain = times @ totals, times @ gains
    recall = np.divide(gain, total, out=np.zeros_like(gain), where=total > 0)
    found: npt.NDArray[np.float64] = recall.sum(axis=1) / (total > 0).sum(axis=1)
    return found
