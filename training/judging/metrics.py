"""Classification measures, NumPy only, for training, evaluation and comparison alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, cloud_bin
from esccs_edge.contracts.types import Labels, Mask

ECE_BINS = 15
#: Predicted class of a pair that got no answer; it counts as wrong.
FAILED = -1


def confusion_matrix(labels: Labels, predicted: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Count pairs by true class (rows, K) and predicted class (columns, K + 1; last: `FAILED`)."""
    matrix = np.zeros((classes, classes + 1), np.int64)
    np.add.at(matrix, (labels, np.where(predicted == FAILED, classes, predicted)), 1)
    return matrix


def overall_accuracy(matrix: npt.NDArray[np.int64]) -> float:
    """Share of right answers."""
    return float(np.trace(matrix) / matrix.sum())


def balanced_accuracy(matrix: npt.NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur."""
    totals = matrix.sum(axis=1)
    occurs = totals > 0
    return float((np.diag(matrix)[occurs] / totals[occurs]).mean())


def macro_f1(matrix: npt.NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur or are predicted."""
    hits = np.diag(matrix)
    sizes = matrix.sum(axis=1) + matrix[:, : len(matrix)].sum(axis=0)
    seen = sizes > 0
    return float((2 * hits[seen] / sizes[seen]).mean())


def cohen_kappa(matrix: npt.NDArray[np.int64]) -> float:
    """Agreement beyond chance (Cohen, 1960); 0 where chance already agrees fully."""
    total = matrix.sum()
    expected = float((matrix.sum(axis=1) * matrix[:, : len(matrix)].sum(axis=0)).sum() / total**2)
    if expected == 1.0:
        return 0.0
    return (overall_accuracy(matrix) - expected) / (1 - expected)


def expected_calibration_error(
    confidence: npt.NDArray[np.float64], right: Mask, bins: int = ECE_BINS
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins (Guo et al., 2017).

    Args:
        confidence: ``(N,)`` in [0, 1].
        right: ``(N,)``.
        bins: Number of bins, each ``(low, high]`` but the first, which holds 0 too.
    """
    gap = np.bincount(_confidence_bin(confidence, bins), confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def reliability(
    confidence: npt.NDArray[np.float64], right: Mask, bins: int = 10
) -> list[dict[str, float | int | None]]:
    """Return the bars of a reliability diagram: ``{low, high, n, confidence, accuracy}`` per bin.

    Bins are those of `expected_calibration_error`; the means of an empty one are None.
    """
    place = _confidence_bin(confidence, bins)
    found: list[dict[str, float | int | None]] = []
    for k in range(bins):
        inside = place == k
        is_there = bool(inside.any())
        found.append({
            "low": k / bins,
            "high": (k + 1) / bins,
            "n": int(inside.sum()),
            "confidence": float(confidence[inside].mean()) if is_there else None,
            "accuracy": float(right[inside].mean()) if is_there else None,
        })  # fmt: skip
    return found


def calibration_error_by_chance(confidence: npt.NDArray[np.float64], bins: int = ECE_BINS) -> float:
    """Expected calibration error that a perfectly calibrated model shows on so few pairs.

    The mean of `expected_calibration_error` where each answer is right with the probability that
    its confidence states, by the normal approximation of each bin's gap (Broecker and Smith, 2007,
    on the spread of reliability diagrams). Below it no model differs visibly from a calibrated one.

    Args:
        confidence: ``(N,)`` in [0, 1].
        bins: As in `expected_calibration_error`.
    """
    place = _confidence_bin(confidence, bins)
    variance = np.bincount(place, confidence * (1 - confidence), minlength=bins)
    return float(np.sqrt(2 / np.pi * variance).sum() / len(confidence))


def _confidence_bin(confidence: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def rank_correlation(
    first: npt.NDArray[np.floating[Any]], second: npt.NDArray[np.floating[Any]]
) -> float:
    """Spearman's rank correlation of two ``(N,)`` series; equal values share their mean rank.

    0 where one of them is constant. NaN in either leaves the pair out.
    """
    known = ~(np.isnan(first) | np.isnan(second))
    ranks = []
    for values in (first[known], second[known]):
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[place])
    if not known.any() or any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def scores(
    labels: Labels, predicted: Labels, confidence: npt.NDArray[np.float64], classes: int
) -> dict[str, Any]:
    """Return ``{oa, balanced_accuracy, macro_f1, kappa, ece, ece_by_chance, n, failed}``.

    All but the last two are None if n is 0.

    Args:
        labels: ``(N,)`` true classes, ``0..K-1``.
        predicted: ``(N,)`` classes, or `FAILED`.
        confidence: ``(N,)`` of the answer, 0 where failed.
        classes: K.
    """
    if not len(labels):
        names = ("oa", "balanced_accuracy", "macro_f1", "kappa", "ece", "ece_by_chance")
        return {**dict.fromkeys(names), "n": 0, "failed": 0}
    matrix = confusion_matrix(labels, predicted, classes)
    return {
        "oa": overall_accuracy(matrix),
        "balanced_accuracy": balanced_accuracy(matrix),
        "macro_f1": macro_f1(matrix),
        "kappa": cohen_kappa(matrix),
        "ece": expected_calibration_error(confidence, labels == predicted),
        "ece_by_chance": calibration_error_by_chance(confidence),
        "n": len(labels),
        "failed": int((predicted == FAILED).sum()),
    }


def scores_by_cloud(
    labels: Labels,
    predicted: Labels,
    confidence: npt.NDArray[np.float64],
    cover: npt.NDArray[np.float64],
    classes: int,
) -> dict[str, Any]:
    """Return ``{overall: scores, by_cloud: {"0-20": scores, ...}}``.

    Args:
        labels: ``(N,)`` true classes.
        predicted: ``(N,)`` classes, or `FAILED`.
        confidence: ``(N,)`` of the answer.
        cover: ``(N,)`` share of cloudy pixels; NaN (unknown) counts in ``overall`` only.
        classes: K.
    """
    place = np.array([FAILED if np.isnan(c) else cloud_bin(c) for c in cover], np.int64)

    def part(chosen: Mask) -> dict[str, Any]:
        return scores(labels[chosen], predicted[chosen], confidence[chosen], classes)

    return {
        "overall": part(np.ones(len(labels), bool)),
        "by_cloud": {name: part(place == position) for position, name in enumerate(CLOUD_BINS)},
    }
