"""How far the teacher can be believed on a sample, from what the image shows.

The teacher knows cloud-free images only. Trials under opaque clouds showed that its answers
on clouded images poison the auxiliaries, so every use of them is weighted by this number, which
comes from the estimated clear share of the patch and never from a simulator's record.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .losses import soften


def teacher_reliability(clear_share: Tensor, low: float, high: float) -> Tensor:
    """Map the estimated clear share of a patch to a belief in [0, 1].

    Args:
        clear_share: ``(N,)`` estimated share of cloud-free pixels.
        low: Clear share at and below which the teacher is not believed.
        high: Clear share at and above which it is fully believed; greater than ``low``.
    """
    return ((clear_share - low) / (high - low)).clamp(0, 1)


def trusted_decision(
    teacher_logits: Tensor, sar_logits: Tensor, reliability: Tensor, temperature: float = 1.0
) -> Tensor:
    """Blend the answers of teacher and SAR auxiliary, by the teacher's reliability.

    SAR does not see clouds, so its auxiliary answers where the teacher cannot.

    Args:
        teacher_logits: ``(N, K)`` of the teacher on the optical image.
        sar_logits: ``(N, K)`` of the SAR auxiliary.
        reliability: ``(N,)`` belief in the teacher, in [0, 1].
        temperature: Softens both before blending.

    Returns:
        ``(N, K)`` probabilities, detached.
    """
    belief = reliability.detach()[:, None]
    teacher, sar = soften(teacher_logits, temperature), soften(sar_logits, temperature)
    return belief * teacher + (1 - belief) * sar


def known_or(decision: Tensor, labels: Tensor) -> Tensor:
    """Replace the decision by the true label, one-hot, where one is known (not -1)."""
    one_hot = torch.nn.functional.one_hot(labels.clamp_min(0), decision.shape[1])
    return torch.where(labels[:, None] >= 0, one_hot.to(decision.dtype), decision)
