"""QMF: fusion weighted by the energy of each modality's answer (Zhang et al., ICML 2023).

``w_m = 0.1 logsumexp(z_m)``, ``z = sum_m w_m z_m``, kept at inference. The order of the weights is
asked for by the losses that each sample has had so far, brought to [0, 1], with weight 1, as in the
public code. Our choice: labels are the teacher's confident answers.
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

ENERGY_SCALE = 0.1


class QmfStage(FusionStage[FusionNet]):
    """Fused and uni-modal losses, and a ranking of the weights by past losses.

    Args:
        name: Of the stage.
        net: The network.
        shared: What the methods share.
    """

    history: Tensor

    def __init__(self, name: str, net: FusionNet, shared: Shared) -> None:
        super().__init__(name, net, shared)
        #: Sum of past losses per place and modality; in the checkpoint, as a restart needs it.
        self.register_buffer("history", torch.zeros(len(shared.run.dataset), 2))

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation by all three answers plus the ranking."""
        fused, taught = self.net(batch), self.taught(batch)
        total = self.imitation(weighted(fused), taught)
        places = batch["index"]
        for modality, logits in enumerate((fused.optical, fused.sar)):
            own = taught.where(batch["availability"][:, modality] > 0)
            past = in_unit_range(self.history[:, modality])[places]
            ranking = ranking_loss(energy_weight(logits)[own.kept], past[own.kept])
            total = total + self.imitation(logits, own) + ranking
            losses = label_loss(logits, own.answer).detach() * own.kept
            self.history[:, modality].index_add_(0, places, losses.to(self.history.dtype))
        return total


def in_unit_range(values: Tensor) -> Tensor:
    """Bring ``(N,)`` values to [0, 1]; all 0 while they are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1e-12)


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
