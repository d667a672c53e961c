"""G2D: distillation from uni-modal teachers, only the weaker modality learns (ICCV 2025).

The uni-modal teachers are the auxiliaries of ESCCS, since the target has no labels to train
others; the teacher's filtered answers stand for the labels. Our choice: the
modulation lasts the first half of the epochs, and features are not distilled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..judging.judge import Predictor
from ..learning.losses import distillation_loss, soften
from ..stages.stage import Batch, masked_mean
from .fusion import FusionNet, FusionStage, fusion_net, fusion_predictor, scaled_gradient
from .method import Method
from .ogm_ge import kept_score
from .shared import Shared


class G2dStage(FusionStage[FusionNet]):
    """Cross-entropy, two teachers, and a hard switch on the encoders' gradients."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Labels plus ``T^2 KL`` to both teachers."""
        taught = self.taught(batch)
        with torch.no_grad():
            teachers = [self.frozen(name)(batch[name]) for name in ("optical", "sar")]
        optical, sar = self.net.features(batch)
        if self.current_epoch * 2 < self.schedule.epochs:
            learns = switches(*(kept_score(logits, taught) for logits in teachers))
            optical, sar = scaled_gradient(optical, learns[0]), scaled_gradient(sar, learns[1])
        logits = self.net.heads(optical, sar).logits
        temperature = self.options.distillation.temperature
        loss = self.hard_loss(logits, taught)
        for place, teacher in enumerate(teachers):
            losses = distillation_loss(soften(teacher, temperature), logits, temperature)
            loss = loss + masked_mean(losses, batch["availability"][:, place] > 0)
        return loss


def switches(optical: Tensor, sar: Tensor) -> tuple[float, float]:
    """Return 0 for the modality whose teacher is more confident and 1 for the other."""
    leads = bool(optical > sar)
    return (0.0, 1.0) if leads else (1.0, 0.0)


def _predictor(shared: Shared) -> Predictor:
    taught_by = shared.trained_auxiliaries
    net = fusion_net(shared, "g2d")
    stage = G2dStage("g2d", net, shared, optical=taught_by.optical, sar=taught_by.sar)
    return fusion_predictor(stage, shared)


METHOD = Method(_predictor, "a SAR branch, both auxiliaries of ESCCS as teachers", auxiliaries=True)
