"""G2D: distillation from uni-modal teachers, only the weaker modality learns (ICCV 2025).

Logits and features of both uni-modal teachers are distilled. These are the auxiliaries of ESCCS,
those that its paper draws or, with the cloud estimate, ours, since the target has no labels to
train others; the teacher's filtered answers stand for the labels. Our choice: all weights 1, and
the modulation lasts the first half of the epochs.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from esccs_edge.errors import InputError

from ..judging.judge import Predictor
from ..learning.losses import distillation_loss, soften
from ..learning.networks import UnimodalNet
from ..stages.stage import Batch, masked_mean
from .fusion import FusionNet, FusionStage, fusion_net, fusion_predictor, scaled_gradient
from .method import Method
from .ogm_ge import kept_score
from .shared import Shared


class G2dStage(FusionStage[FusionNet]):
    """Cross-entropy, two teachers, and a hard switch on the encoders' gradients."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Labels plus ``T^2 KL`` to both teachers, plus the distance of the features."""
        taught = self.taught(batch)
        with torch.no_grad():
            nets = {name: cast(UnimodalNet, self.frozen(name)) for name in ("optical", "sar")}
            known = [net.encoder(batch[name]) for name, net in nets.items()]
            teachers = [net.head(h) for net, h in zip(nets.values(), known, strict=True)]
        optical, sar = self.net.features(batch)
        own = optical, sar
        if self.current_epoch * 2 < self.schedule.epochs:
            learns = switches(*(kept_score(logits, taught) for logits in teachers))
            optical, sar = scaled_gradient(optical, learns[0]), scaled_gradient(sar, learns[1])
        logits = self.net.heads(optical, sar).logits
        temperature = self.options.distillation.temperature
        loss = self.hard_loss(logits, taught)
        for place, teacher in enumerate(teachers):
            losses = distillation_loss(soften(teacher, temperature), logits, temperature)
            apart = ((own[place] - known[place]) ** 2).mean(dim=1)
            loss = loss + masked_mean(losses + apart, batch["availability"][:, place] > 0)
        return loss


def switches(optical: Tensor, sar: Tensor) -> tuple[float, float]:
    """Return 0 for the modality whose teacher is more confident and 1 for the other."""
    leads = bool(optical > sar)
    return (0.0, 1.0) if leads else (1.0, 0.0)


def _predictor(shared: Shared) -> Predictor:
    taught_by = shared.trained_auxiliaries
    options = shared.run.options
    sizes = options.student.optical, options.student.sar
    if sizes != (options.auxiliary.optical, options.auxiliary.sar):
        raise InputError(
            f"g2d compares features, but branches of student and auxiliaries differ: {sizes} and "
            f"{(options.auxiliary.optical, options.auxiliary.sar)}",
            hint="Give both the same sizes, or leave g2d out",
        )
    net = fusion_net(shared, "g2d")
    stage = G2dStage("g2d", net, shared, optical=taught_by.optical, sar=taught_by.sar)
    return fusion_predictor(stage, shared)


METHOD = Method(
    _predictor,
    "a SAR branch, both auxiliaries of ESCCS as teachers",
    needs=("paper auxiliaries",),
)
