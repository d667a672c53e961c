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
from torch import Tensor, nn

from ..options import IrmOptions

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


class RatioCenter(nn.Module):
    """Divides rho by its running geometric mean, so that its typical value is 1.

    On cloudy images teacher and optical auxiliary share their input and hence their errors,
    which tilts rho toward optical; centering takes that bias out. The mean moves in training
    only and is corrected for its start at zero, as Adam's moments are.
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def update(self, log_rho: Tensor) -> None:
        """Move the mean toward that of ``(N,)`` log rho; nothing happens outside training."""
        if self.training and len(log_rho):
            self.mean.lerp_(log_rho.mean(), 1 - self.decay)
            self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)

    def forward(self, log_rho: Tensor) -> Tensor:
        """``(N,)`` log rho -> ``(N,)`` centered log rho."""
        return log_rho - self.mean / self.weight.clamp_min(1e-12)


def modality_weights(
    log_rho: Tensor, optical_logits: Tensor, sar_logits: Tensor, options: IrmOptions
) -> Tensor:
    """Loss weights of the two auxiliaries, ``(N, 2)``, optical first, detached.

    Variants (``options.variant``):
        ``"ogm"``: the stronger modality gets ``1 - tanh(alpha * ratio)``, the weaker 1.
        ``"power"``: ``2 / (1 + rho^beta)`` and ``2 rho^beta / (1 + rho^beta)``; they sum to 2,
        beta 0 switches the mechanism off, a negative beta trusts the stronger modality.
        ``"power+floor"``: the same, times each auxiliary's certainty ``1 - H(p) / log K``,
        rescaled to sum to 2, so that an auxiliary that knows nothing is not boosted.

    Args:
        log_rho: ``(N,)``, centered or not; clipped to ``+-log(options.clip)``.
        optical_logits: ``(N, K)`` of the optical auxiliary.
        sar_logits: ``(N, K)`` of the SAR auxiliary.
        options: Variant and its constants.
    """
    limit = math.log(options.clip)
    log_rho = log_rho.detach().clamp(-limit, limit)
    if options.variant == "ogm":
        return _ogm(torch.exp(log_rho), options.alpha)
    balance = 2 * torch.sigmoid(options.beta * torch.stack((-log_rho, log_rho), dim=1))
    if options.variant == "power":
        return balance
    certainty = torch.stack((_certainty(optical_logits), _certainty(sar_logits)), dim=1)
    floored = balance * certainty
    total = floored.sum(dim=1, keepdim=True)
    return torch.where(total > 0, 2 * floored / total.clamp_min(1e-12), floored)


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


def _ogm(rho: Tensor, alpha: float) -> Tensor:
    optical = torch.where(rho > 1, 1 - torch.tanh(alpha * rho), torch.ones_like(rho))
    sar = torch.where(rho < 1, 1 - torch.tanh(alpha / rho), torch.ones_like(rho))
    return torch.stack((optical, sar), dim=1)


def _certainty(logits: Tensor) -> Tensor:
    """1 for a one-hot answer, 0 for a uniform one."""
    probabilities = torch.softmax(logits.detach(), dim=1)
    entropy = -torch.xlogy(probabilities, probabilities).sum(dim=1)
    return (1 - entropy / math.log(logits.shape[1])).clamp(0, 1)
