"""G2D: distillation from uni-modal teachers, only the weaker modality learns (ICCV 2025).

The uni-modal teachers are the auxiliaries of ESCCS, since the target has no labels to train
others; the source model's filtered answers stand for the labels. Our choice: the
modulation lasts the first half of the epochs, and features are not distilled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..judging.judge import Predictor
from ..learning.losses import distillation_loss, soften
from ..stages.chain import Chain
from ..stages.stage import Batch, masked_mean
from .fusion import FusionStep, fusion_predictor, scaled_gradient
from .method import Method
from .ogm_ge import kept_score


class G2dStep(FusionStep):
    """Cross-entropy, two teachers, and a hard switch on the encoders' gradients."""

    def __init__(self, chain: Chain) -> None:
        frozen = {"teacher": chain.teacher, "optical": chain.optical_auxiliary,
                  "sar": chain.sar_auxiliary}  # fmt: skip
        super().__init__("g2d", chain)
        self.keep_frozen(**frozen)

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


def _predictor(chain: Chain) -> Predictor:
    return fusion_predictor(G2dStep(chain), chain)


METHOD = Method(_predictor, "a SAR branch, both auxiliaries of ESCCS as teachers", auxiliaries=True)
