"""Which answers of the teacher become pseudo-labels for the auxiliaries.

The filter follows the idea of KDHN (logits decide): an answer must be confident, and among the
most confident of its class. Confidence alone is not enough under clouds, so the sample must also
be nearly clear. Thresholds are fixed over the whole
training set before an auxiliary learns. The numbers are ours; the paper gives none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene_options import FilterOptions


@dataclass(frozen=True)
class PseudoLabelFilter:
    """Fitted thresholds.

    Attributes:
        confidence: ``(K,)`` least confidence an answer of each class needs.
        reliability: Least reliability of the teacher on the sample.
    """

    confidence: Tensor
    reliability: float

    @classmethod
    def fit(
        cls, probabilities: Tensor, reliability: Tensor, options: FilterOptions
    ) -> PseudoLabelFilter:
        """Choose thresholds from the teacher's answers on the training set.

        Of the reliable answers of each class those are kept that are among its ``top_share``
        most confident and have a confidence of at least ``confidence``.

        Args:
            probabilities: ``(N, K)`` of the teacher.
            reliability: ``(N,)`` in [0, 1].
            options: The numbers.
        """
        confidence, answer = probabilities.max(dim=1)
        reliable = reliability >= options.reliability
        thresholds = [
            _threshold(confidence[reliable & (answer == k)], options)
            for k in range(probabilities.shape[1])
        ]
        return cls(torch.tensor(thresholds, dtype=probabilities.dtype), options.reliability)

    def keep(self, probabilities: Tensor, reliability: Tensor) -> Tensor:
        """Return ``(N,)`` bool: which answers may teach."""
        confidence, answer = probabilities.max(dim=1)
        return (confidence >= self.confidence[answer]) & (reliability >= self.reliability)


def filter_report(kept: Tensor, probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Count how many answers were kept and, where labels are known, how many of these are right.

    Args:
        kept: ``(N,)`` bool.
        probabilities: ``(N, K)`` of the teacher.
        labels: ``(N,)`` int64, -1 where not known.

    Returns:
        ``kept_share``, and ``kept_precision`` if any kept sample has a label.
    """
    report = {"kept_share": float(kept.float().mean())}
    known = kept & (labels >= 0)
    if known.any():
        right = probabilities.argmax(dim=1) == labels
        report["kept_precision"] = float(right[known].float().mean())
    return report


def _threshold(confidences: Tensor, options: FilterOptions) -> float:
    """Least confidence to keep among the reliable answers of one class."""
    count = len(confidences)
    if count == 0:
        return options.confidence
    ranked = confidences.sort(descending=True).values
    top = max(1, round(options.top_share * count))
    return max(float(ranked[top - 1]), options.confidence)
