"""What regulation could bring at all: a perfect choice between the two auxiliaries, per sample.

Where both are right or both are wrong there is nothing to choose. This bounds a student that only
ever repeats one of them; one that learns more from both is not bound by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, cloud_bin
from esccs_edge.contracts.types import Labels

from ..judging.metrics import balanced_accuracy, confusion_matrix
from .recorded_answers import RecordedAnswers

#: The rows it is computed from, optical first.
HALVES = ("optical-auxiliary", "sar-auxiliary")


def choosing_bound(recorded: Mapping[str, Sequence[RecordedAnswers]]) -> dict[str, Any]:
    """Return the bound over all pairs and by cloud bin; empty where a half was not run.

    Args:
        recorded: Method -> its answers, one entry per seed.

    Returns:
        ``"all"`` and each bin with pairs -> ``one_right`` (share of pairs on which exactly one
        auxiliary is right), ``best`` (balanced accuracy of the better one of the two) and
        ``oracle`` (of whichever is right); means over seeds.
    """
    if not all(name in recorded for name in HALVES):
        return {}
    runs = list(zip(recorded[HALVES[0]], recorded[HALVES[1]], strict=True))
    found = {}
    for position, name in enumerate((*CLOUD_BINS, "all")):
        parts = [_bound(*pair, None if name == "all" else position) for pair in runs]
        known = [part for part in parts if part]
        if known:
            found[name] = {key: float(np.mean([p[key] for p in known])) for key in known[0]}
    return found


def _bound(
    optical: RecordedAnswers, sar: RecordedAnswers, position: int | None
) -> dict[str, float]:
    cover = optical.judged.cover
    place = np.array([-1 if np.isnan(c) else cloud_bin(c) for c in cover])
    inside = np.ones(len(cover), bool) if position is None else place == position
    if not inside.any():
        return {}
    labels: Labels = optical.judged.labels[inside]
    first, second = (part.judged.probabilities[inside].argmax(axis=1) for part in (optical, sar))
    classes = optical.judged.probabilities.shape[1]

    def score(answers: Labels) -> float:
        return balanced_accuracy(confusion_matrix(labels, answers, classes))

    return {
        "one_right": float(((first == labels) != (second == labels)).mean()),
        "best": max(score(first), score(second)),
        "oracle": score(np.where(first == labels, first, second)),
    }
