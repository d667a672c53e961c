"""Cloud cover that a data set states about its own images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..datasets import PairSource


def recorded_covers(source: PairSource) -> npt.NDArray[np.float64]:
    """Return ``(N,)`` covers in [0, 1]; NaN where the data set states none."""
    covers = getattr(source, "covers", [None] * len(source))
    return np.array([np.nan if cover is None else cover for cover in covers], np.float64)
