"""KD-S: the teacher distilled into a network of one modality on the target's pairs.

Hinton et al. (2015), as the survey cited by ESCCS describes it: cross-entropy on the teacher's
answers plus the soft loss, from a random start, no filter. ``kd-s`` sees the cloudy image, as the
teacher does; ``kd-sar`` sees SAR and is ours: the shortest way from optical to SAR, which a chain
of domains (TTL) has to beat.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..judging.judge import Predictor
from ..judging.predictors import unimodal
from ..learning.networks import UnimodalNet
from ..stages.stage import Batch
from .method import Method, MethodStage, both_see, trained, unimodal_net
from .shared import Shared


class KdStage(MethodStage[UnimodalNet]):
    """Imitates the teacher's answer on the cloudy image."""

    modality: Literal["optical", "sar"] = "optical"

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation over the pairs whose image is there."""
        taught = self.taught(batch).where(both_see(batch, self.modality))
        return self.imitation(self.net(batch[self.modality]), taught)


class SarKdStage(KdStage):
    """The same from SAR."""

    modality = "sar"


def _optical(shared: Shared) -> Predictor:
    stage = KdStage("kd-s", unimodal_net(shared, "kd-s", "optical"), shared)
    return unimodal(trained(stage, shared), "optical")


def _sar(shared: Shared) -> Predictor:
    stage = SarKdStage("kd-sar", unimodal_net(shared, "kd-sar", "sar"), shared)
    return unimodal(trained(stage, shared), "sar")


METHOD = Method(_optical, "an optical network taught by the teacher on cloudy images")
SAR = Method(_sar, "a SAR network taught by the teacher on cloudy images")
