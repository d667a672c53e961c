"""Dates that a time series loses: masks by rate and pattern, seeded, and their exact map.

They stand in for clouds; which dates are lost never depends on a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from esccs_edge.contracts.types import Doubles, Mask

Pattern = Literal["uniform", "gap", "seasonal"]
PATTERNS: tuple[Pattern, ...] = ("uniform", "gap", "seasonal")

#: A series keeps as many dates, if it had them.
LEAST_DATES = 3
#: Relative cloudiness of the months in a temperate climate (ours; January first).
CLOUDINESS = (0.9, 0.8, 0.7, 0.6, 0.55, 0.45, 0.4, 0.4, 0.5, 0.65, 0.8, 0.9)


def keep_dates(
    observed: Mask,
    rate: float,
    pattern: Pattern,
    rng: np.random.Generator,
    months: Sequence[int] | None = None,
) -> Mask:
    """Return which dates stay.

    Args:
        observed: ``(T,)``: dates on which there is anything; only these can be lost.
        rate: Share of the observed dates to lose; at least `LEAST_DATES` stay.
        pattern: ``"uniform"``: any dates; ``"gap"``: neighbors in time; ``"seasonal"``: likelier
            in cloudy months.
        rng: Draws the dates.
        months: ``(T,)`` month of each date; None: the seasonal pattern has nothing to go by and
            is uniform.

    Returns:
        ``(T,)``, true only where ``observed`` is.
    """
    places = np.flatnonzero(observed)
    count = min(round(rate * places.size), max(places.size - LEAST_DATES, 0))
    keep = observed.copy()
    if count <= 0:
        return keep
    if pattern == "gap":
        start = int(rng.integers(places.size - count + 1))
        keep[places[start : start + count]] = False
        return keep
    chances: Doubles | None = None
    if pattern == "seasonal" and months is not None:
        cloudiness = np.array(CLOUDINESS)[np.asarray(months)[places] - 1]
        chances = cloudiness / cloudiness.sum()
    keep[rng.choice(places, count, replace=False, p=chances)] = False
    return keep


def draw_pattern(weights: Mapping[Pattern, float], rng: np.random.Generator) -> Pattern:
    """Return a pattern by the weights."""
    chances = np.array([weights[pattern] for pattern in PATTERNS])
    return PATTERNS[int(rng.choice(len(PATTERNS), p=chances / chances.sum()))]
