"""Upper bounds: what the target does not offer, as a scale for the other rows.

Supervised fusion knows the target's labels; the clear teacher sees the target without clouds. Both
are our choice; the network of supervised fusion is that of ``tlf-middle``.
"""

from __future__ import annotations

from torch import Tensor

from ..judging.judge import Predictor
from ..judging.predictors import unimodal
from ..learning.losses import label_loss
from ..stages.stage import Batch, masked_mean
from .fusion import FusionNet, FusionStage, fusion_net
from .method import Method, trained
from .shared import Shared
from .told import Gifts


class SupervisedStage(FusionStage[FusionNet]):
    """Joined features, true labels."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Cross-entropy on the target's labels."""
        losses = label_loss(self.net(batch).logits, batch["label"])
        return masked_mean(losses, batch["label"] >= 0)


def _supervised(shared: Shared) -> Predictor:
    net = fusion_net(shared, "supervised-fusion")
    stage = SupervisedStage("supervised-fusion", net, shared)
    net = trained(stage, shared, shared.run.cloudy_samples_with_labels())
    return lambda batch: net(batch).logits.softmax(dim=1)


SUPERVISED_FUSION = Method(
    _supervised, "upper bound: labels of the target",
    gifts=Gifts(target_labels=True, rehearses=False), deployable=False,
)  # fmt: skip
CLEAR_TEACHER = Method(
    lambda shared: unimodal(shared.teacher, "clear"), "upper bound: no clouds",
    gifts=Gifts(target_clear=True, stages=0), deployable=False,
)  # fmt: skip
