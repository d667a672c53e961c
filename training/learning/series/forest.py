"""A random forest on filled pixel series, which every network has to beat (Breiman, 2001).

Its features are the values that networks read: all channels at all dates, normalized, with missing
dates on the line between their neighbors, and what share of each sensor's dates was seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esccs_edge.contracts.types import Doubles, Labels
from esccs_edge.errors import MissingDependencyError

from .filling import interpolated

TREES = 500
#: Below the votes of one tree; a class without a vote has a logarithm then.
_LEAST = 1e-4


class SeriesForest:
    """A forest of `TREES` trees.

    Args:
        seed: Of the draws of samples and features.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """

    def __init__(self, seed: int = 0) -> None:
        try:
            from sklearn.ensemble import RandomForestClassifier
        except ImportError as error:
            raise MissingDependencyError.for_extra(
                "scikit-learn", "train", "The random forest among the baselines", error
            ) from error
        self._forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1)

    def fit(self, series: Sequence[Tensor], labels: Labels) -> SeriesForest:
        """Learn from sensors ``(N, C, T, 1)``, 0 at missing dates, and labels ``(N,)``; -1 is none.

        Returns:
            This forest.
        """
        known = labels >= 0
        self._forest.fit(_features(series)[known], labels[known])
        return self

    def logits(self, series: Sequence[Tensor], classes: int) -> Tensor:
        """Return logarithms of the share of votes ``(N, K)``."""
        shares = np.zeros((len(series[0]), classes))
        shares[:, self._forest.classes_] = self._forest.predict_proba(_features(series))
        return torch.from_numpy(np.log(np.maximum(shares, _LEAST)))


def _features(series: Sequence[Tensor]) -> Doubles:
    values = [interpolated(one).flatten(1) for one in series]
    seen = [(one != 0).any(dim=1).float().mean(dim=1) for one in series]
    return torch.cat([*values, *seen], dim=1).double().numpy()
