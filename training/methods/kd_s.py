"""KD-S: soft distillation of the teacher into an optical student on the cloudy images.

Hinton et al. (2015), as the survey cited by ESCCS describes it. Our choice: no filter and no
cross-entropy on the teacher's answers.
"""

from __future__ import annotations

from torch import Tensor

from ..judging.judge import Predictor
from ..judging.predictors import unimodal
from ..learning.losses import distillation_loss, soften
from ..learning.networks import UnimodalNet
from ..stages.stage import Batch, masked_mean
from .method import Method, MethodStage, trained, unimodal_net
from .shared import Shared


class KdStage(MethodStage[UnimodalNet]):
    """Imitates the teacher on the image that both see."""

    def method_loss(self, batch: Batch) -> Tensor:
        """``T^2 KL`` to the teacher, over the images that are there."""
        temperature = self.options.distillation.temperature
        taught = self.taught(batch)
        target = soften(taught.logits, temperature)
        losses = distillation_loss(target, self.net(batch["optical"]), temperature)
        return masked_mean(losses, taught.kept & (batch["availability"][:, 0] > 0))


def _predictor(shared: Shared) -> Predictor:
    stage = KdStage("kd-s", unimodal_net(shared, "kd-s", "optical"), shared)
    return unimodal(trained(stage, shared), "optical")


METHOD = Method(_predictor, "an optical network taught by the teacher on cloudy images")
