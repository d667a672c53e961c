"""QMF: fusion weighted by the energy of each modality's answer (Zhang et al., ICML 2023).

``w_m = 0.1 logsumexp(z_m)``, ``z = sum_m w_m z_m``, kept at inference. Our choice: the order of
weights is asked for by the losses of this batch and not by those summed over past epochs; labels
are the teacher's confident answers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..judging.judge import Predictor
from ..learning.losses import label_loss
from ..stages.stage import Batch
from .fusion import Fused, FusionNet, FusionStage, fusion_net
from .method import Method, trained
from .shared import Shared

RANKING_WEIGHT = 0.1
ENERGY_SCALE = 0.1


class QmfStage(FusionStage[FusionNet]):
    """Fused and uni-modal losses, and a ranking of the weights by the losses."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation by all three answers plus the ranking."""
        fused, taught = self.net(batch), self.taught(batch)
        total = self.imitation(weighted(fused), taught)
        for logits in (fused.optical, fused.sar):
            losses = label_loss(logits, taught.answer).detach()
            ranking = ranking_loss(energy_weight(logits)[taught.kept], losses[taught.kept])
            total = total + self.imitation(logits, taught) + RANKING_WEIGHT * ranking
        return total


def energy_weight(logits: Tensor) -> Tensor:
    """``0.1 logsumexp(z)`` per sample, ``(N,)``: minus a tenth of the energy."""
    return ENERGY_SCALE * torch.logsumexp(logits, dim=1)


def weighted(fused: Fused) -> Tensor:
    """Joint logits ``(N, K)``."""
    parts = (fused.optical, fused.sar)
    return torch.stack([energy_weight(z)[:, None] * z for z in parts]).sum(dim=0)


def ranking_loss(weight: Tensor, losses: Tensor) -> Tensor:
    """Ask neighbors in the batch for the order of weights that their losses have."""
    if len(weight) < 2:
        return weight.new_zeros(())
    gap = losses.roll(-1) - losses
    return functional.relu(gap.abs() - gap.sign() * (weight - weight.roll(-1))).mean()


def _predictor(shared: Shared) -> Predictor:
    net = trained(QmfStage("qmf", fusion_net(shared, "qmf"), shared), shared)
    return lambda batch: torch.softmax(weighted(net(batch)), dim=1)


METHOD = Method(_predictor, "two networks, answers weighted by their energy")
