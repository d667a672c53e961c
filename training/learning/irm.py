"""Information regulation mechanism (IRM): per-sample weights that keep modalities in balance.

Two frozen auxiliaries measure how far each modality alone supports the trusted decision on a
sample. Their ratio turns into loss weights which boost the *weaker* modality while the student
learns. The same two numbers, the other way round, are the target of the student's gate: at
inference it should trust the *more reliable* one. The paper draws the mechanism without formulas;
all formulas here are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..scene_options import IrmOptions

#: Added to both contributions, so that their ratio stays finite.
CONTRIBUTION_EPS = 1e-4
#: Wanted share of optical under a clear sky; less would cost accuracy there, 1 has no gradient.
CLEAR_OPTICAL_SHARE = 0.97


def contributions(decision: Tensor, optical_logits: Tensor, sar_logits: Tensor) -> Tensor:
    """How far each auxiliary agrees with the trusted decision: ``sum_k decision_k * p_m,k``.

    With a one-hot decision (a known label) this is the score of OGM-GE (Peng et al., CVPR 2022),
    taken per sample.

    Args:
        decision: ``(N, K)`` probabilities at temperature 1; a higher one would flatten the ratio.
        optical_logits: ``(N, K)`` of the optical auxiliary.
        sar_logits: ``(N, K)`` of the SAR auxiliary.

    Returns:
        ``(N, 2)`` in [0, 1], optical first, detached.
    """
    agreement = [
        (decision.detach() * torch.softmax(logits.detach(), dim=1)).sum(dim=1)
        for logits in (optical_logits, sar_logits)
    ]
    return torch.stack(agreement, dim=1)


def log_ratio(contribution: Tensor) -> Tensor:
    """``log rho`` per sample, rho = optical over SAR contribution; positive: optical leads."""
    logs = torch.log(contribution + CONTRIBUTION_EPS)
    return logs[:, 0] - logs[:, 1]


def modality_weights(log_rho: Tensor, options: IrmOptions) -> Tensor:
    """Loss weights of the two auxiliaries, ``(N, 2)``, optical first, detached.

    ``2 / (1 + rho^beta)`` and ``2 rho^beta / (1 + rho^beta)``: they sum to 2, beta 0 switches the
    mechanism off, a positive beta boosts the weaker modality and a negative one the stronger.

    Args:
        log_rho: ``(N,)``; clipped to ``+-log(options.clip)``.
        options: Its constants.
    """
    limit = math.log(options.clip)
    log_rho = log_rho.detach().clamp(-limit, limit)
    return 2 * torch.sigmoid(options.beta * torch.stack((-log_rho, log_rho), dim=1))


def present_weights(weights: Tensor, availability: Tensor) -> Tensor:
    """Move the weight of an absent modality to the one that is present.

    Args:
        weights: ``(N, 2)``.
        availability: ``(N, 2)``, share of valid pixels per modality.

    Returns:
        ``(N, 2)`` with each row's sum kept, or 0 where both are absent.
    """
    present = weights * (availability > 0)
    scale = weights.sum(dim=1, keepdim=True) / present.sum(dim=1, keepdim=True).clamp_min(1e-12)
    return torch.where(present > 0, present * scale, present)


def gate_target(contribution: Tensor, availability: Tensor, sharpness: float = 1.0) -> Tensor:
    """Wanted gate: ``a_m c_m^s / sum_m a_m c_m^s``; a modality that is absent gets exactly 0.

    Args:
        contribution: ``(N, 2)`` from `contributions`.
        availability: ``(N, 2)``, share of pixels per modality that can be used: valid and, for
            optical, not clouded.
        sharpness: s; 1 splits in proportion, more follows the better modality closer.
    """
    trust = availability * (contribution + CONTRIBUTION_EPS) ** sharpness
    return trust / trust.sum(dim=1, keepdim=True).clamp_min(1e-12)


def clear_share_target(usable: Tensor) -> Tensor:
    """Wanted gate that shows optical as far as it is clear, and SAR for the rest.

    ``CLEAR_OPTICAL_SHARE * clear`` of the weight is optical, times the availability of each
    modality; a modality that is absent gets exactly 0.

    Args:
        usable: ``(N, 2)``, share of pixels per modality that can be used: valid and, for optical,
            not clouded.
    """
    optical = CLEAR_OPTICAL_SHARE * usable[:, 0]
    sar = (1 - optical) * usable[:, 1]
    trust = torch.stack((optical, sar), dim=1)
    return trust / trust.sum(dim=1, keepdim=True).clamp_min(1e-12)
