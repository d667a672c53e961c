"""MMPareto: joint and uni-modal gradients agree on a direction (Wei and Hu, ICML 2024).

Our choice: gradients are compared at the features of each modality and not over all weights of
its encoder, which saves two backward passes; labels are the teacher's confident answers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..judging.judge import Predictor
from ..stages.stage import Batch
from .fusion import FusionNet, FusionStage, fusion_net, fusion_predictor
from .method import Method
from .shared import Shared

GAMMA = 1.5


class MmParetoStage(FusionStage[FusionNet]):
    """Heads learn from plain sums; each encoder from the combined direction."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Sum of three losses, with the encoders' gradients replaced."""
        taught = self.taught(batch)
        features = self.net.features(batch)
        own = [h.detach().requires_grad_() for h in features]
        fused = self.net.heads(*own)
        joint = self.imitation(fused.logits, taught)
        present = (batch["availability"] > 0).unbind(dim=1)
        alone = [
            self.imitation(z, taught.where(there))
            for z, there in zip((fused.optical, fused.sar), present, strict=True)
        ]
        total = joint + alone[0] + alone[1]
        for h, leaf, loss in zip(features, own, alone, strict=True):
            (from_joint,) = torch.autograd.grad(joint, leaf, retain_graph=True)
            (from_own,) = torch.autograd.grad(loss, leaf, retain_graph=True)
            direction = combined(from_joint, from_own)
            total = total + ((h - h.detach()) * direction).sum()
        return total


def min_norm_share(a: Tensor, b: Tensor) -> Tensor:
    """Share s in [0, 1] of ``a`` that makes ``s a + (1 - s) b`` shortest (MGDA)."""
    gap = ((a - b) ** 2).sum()
    return ((b * (b - a)).sum() / gap.clamp_min(1e-12)).clamp(0, 1)


def combined(joint: Tensor, own: Tensor) -> Tensor:
    """Combine two gradients: the sum if they agree, else the min-norm one; never shorter.

    ``2 s joint + 2 (1 - s) own``, stretched to the length of the plain sum where that is longer,
    then times 1.5.
    """
    plain = joint + own
    agree = (joint * own).sum() > 0
    share = torch.where(agree, torch.full_like(plain.sum(), 0.5), min_norm_share(joint, own))
    direction = 2 * share * joint + 2 * (1 - share) * own
    stretch = (plain.norm() / direction.norm().clamp_min(1e-12)).clamp_min(1)
    result: Tensor = GAMMA * stretch * direction
    return result


def _predictor(shared: Shared) -> Predictor:
    stage = MmParetoStage("mmpareto", fusion_net(shared, "mmpareto"), shared)
    return fusion_predictor(stage, shared)


METHOD = Method(_predictor, "tlf-middle with uni-modal heads and balanced gradients")
