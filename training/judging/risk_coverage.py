"""What is gained by setting the least certain answers aside (El-Yaniv and Wiener, 2010)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Mask

#: Shares of the answers that are kept.
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


def risk_coverage(confidence: npt.NDArray[np.float64], right: Mask) -> dict[str, Any]:
    """Return the accuracy of the most certain answers, and how certain these are.

    Among answers of one confidence none goes before another: each counts as right to the share
    to which they are.

    Args:
        confidence: ``(N,)``, N of 1 or more.
        right: ``(N,)``.

    Returns:
        ``{"accuracy": {"1.0": ..., "0.95": ..., ...}, "threshold": {...}, "aurc": ...}``: by the
        share of answers kept, the accuracy and the least confidence of those kept (of equal ones
        others may be left); and the mean share of wrong answers over all numbers of kept ones
        (Geifman and El-Yaniv, 2017).
    """
    _, place, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    share_right = np.bincount(place, right) / counts
    kept = np.arange(1, len(confidence) + 1)
    accuracy = np.cumsum(np.repeat(share_right, counts)) / kept
    least = np.sort(confidence)[::-1]
    last = {str(share): max(1, round(share * len(confidence))) - 1 for share in COVERAGES}
    return {
        "accuracy": {share: float(accuracy[number]) for share, number in last.items()},
        "threshold": {share: float(least[number]) for share, number in last.items()},
        "aurc": float(1 - accuracy.mean()),
    }
