"""Sample-level modality valuation: train the low contributor alone (Wei et al., CVPR 2024).

A Shapley value measures what each modality gives on a sample; samples where it gives little are
seen again with the other modality dropped. Our choice: the copies count as loss weights in the
same batch instead of a longer epoch, warm-up as for ESCCS, labels from the teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..judging.judge import Predictor
from ..learning.losses import label_loss
from ..stages.stage import Batch, masked_mean
from .fusion import FusionNet, FusionStage, fusion_net, fusion_predictor
from .method import Method, Taught
from .shared import Shared


class ValuationStage(FusionStage[FusionNet]):
    """Adds a loss on one modality, with as many copies as its low value asks for."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation by both, and cross-entropy by each alone times its copies."""
        taught = self.taught(batch)
        optical, sar = self.net.features(batch)
        loss = self.imitation(self.net.heads(optical, sar).logits, taught)
        if self.current_epoch < self.options.student.irm.warmup_epochs:
            return loss
        alone = (
            self._answer(optical, torch.zeros_like(sar)),
            self._answer(torch.zeros_like(optical), sar),
        )
        values = self._values(optical, sar, taught)
        for logits, value in zip(alone, values.unbind(dim=1), strict=True):
            loss = loss + masked_mean(
                copies(value) * label_loss(logits, taught.answer), taught.kept
            )
        return loss

    def _answer(self, optical: Tensor, sar: Tensor) -> Tensor:
        answer: Tensor = self.net.head(self.net.dropout(torch.cat((optical, sar), dim=1)))
        return answer

    @torch.no_grad()
    def _values(self, optical: Tensor, sar: Tensor, taught: Taught) -> Tensor:
        pairs = (optical, sar), (optical, torch.zeros_like(sar)), (torch.zeros_like(optical), sar)
        answers = [self.net.head(torch.cat(pair, dim=1)).argmax(dim=1) for pair in pairs]
        return valuation(*(answer == taught.answer for answer in answers))


def valuation(both: Tensor, optical: Tensor, sar: Tensor) -> Tensor:
    """Shapley values ``(N, 2)`` from which answers were right: v(both) = 2, v(one) = 1, else 0.

    ``phi_o = (v(o) + v(both) - v(s)) / 2`` and the mirror of it.
    """
    joint, o, s = 2.0 * both.float(), optical.float(), sar.float()
    return torch.stack(((o + joint - s) / 2, (s + joint - o) / 2), dim=1)


def copies(value: Tensor) -> Tensor:
    """Extra copies of a sample: 3 below -0.1, 2 up to 0.4, 1 below 1, else 0."""
    steps = [value < 1.0, value < 0.4, value < -0.1]
    return torch.stack(steps).float().sum(dim=0)


def _predictor(shared: Shared) -> Predictor:
    stage = ValuationStage("modality-valuation", fusion_net(shared, "modality-valuation"), shared)
    return fusion_predictor(stage, shared)


METHOD = Method(_predictor, "tlf-middle, low contributors trained alone, per sample")
