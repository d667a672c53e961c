"""KD-S: soft distillation of the source model into an optical student on the cloudy images.

Hinton et al. (2015), as the survey cited by ESCCS describes it. Our choice: no filter and no
cross-entropy on the source model's answers.
"""

from __future__ import annotations

from torch import Tensor

from ..judging.judge import Predictor, unimodal
from ..learning.losses import distillation_loss, soften
from ..stages.chain import Chain
from ..stages.stage import Batch, masked_mean
from .method import Method, MethodStep, trained, unimodal_net


class KdStep(MethodStep):
    """Imitates the source model on the image that both see."""

    def method_loss(self, batch: Batch) -> Tensor:
        """``T^2 KL`` to the source model, over the images that are there."""
        temperature = self.options.distillation.temperature
        taught = self.taught(batch)
        target = soften(taught.logits, temperature)
        losses = distillation_loss(target, self.net(batch["optical"]), temperature)
        return masked_mean(losses, taught.kept & (batch["availability"][:, 0] > 0))


def _predictor(chain: Chain) -> Predictor:
    teacher = chain.teacher
    step = KdStep("kd-s", unimodal_net(chain, "kd-s", "optical"), chain, teacher=teacher)
    return unimodal(trained(step, chain), "optical")


METHOD = Method(_predictor, "an optical network taught by the source model on cloudy images")
