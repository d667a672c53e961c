"""KDHN: filtered pseudo-labels passed on recursively (LGRS 2022, doi 3116601).

The teacher labels, its confident answers teach a fusion network, which then labels along.
Formulas were not to be found. Our choice: one first third of the epochs with the teacher's
labels, then labels by the plain mean of teacher and the network's own averaged weights,
renewed at every step of the optimizer, through the filter of `training.learning.pseudo_labels`
without reliability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..judging.judge import Predictor
from ..learning.losses import soften
from ..stages.stage import Batch
from .fusion import FusionNet, FusionStage, fusion_net, fusion_predictor
from .method import Method, Taught
from .shared import Shared

#: The network labels along once this share of the epochs is over.
FIRST_ROUND = 1 / 3


class KdhnStage(FusionStage[FusionNet]):
    """After the first round the network's averaged weights label along with the teacher."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation of the merged answers that pass the filter."""
        return self.imitation(self.net(batch).logits, self._merged(batch))

    @torch.no_grad()
    def _merged(self, batch: Batch) -> Taught:
        taught = self.taught(batch)
        if self.current_epoch < FIRST_ROUND * self.schedule.epochs:
            return taught
        own = self.average.eval()(batch).logits
        return self.judged(merged_logits(taught.logits, own), taught.reliability)


def merged_logits(teacher: Tensor, own: Tensor) -> Tensor:
    """Logarithm of the mean of two answers."""
    return torch.log((soften(teacher) + soften(own)).clamp_min(1e-12) / 2)


def _predictor(shared: Shared) -> Predictor:
    stage = KdhnStage("kdhn", fusion_net(shared, "kdhn"), shared)
    return fusion_predictor(stage, shared)


METHOD = Method(_predictor, "a SAR branch, joined features, labels renewed by the network itself")
