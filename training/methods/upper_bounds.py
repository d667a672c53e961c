"""Upper bounds: what the target does not offer, as a scale for the other rows.

Supervised fusion knows the target's labels; the clear teacher sees the target without clouds. Both
are our choice; the network of supervised fusion is that of ``tlf-middle``.
"""

from __future__ import annotations

from torch import Tensor

from ..judging.judge import Predictor, unimodal
from ..learning.losses import label_loss
from ..stages.chain import Chain
from ..stages.stage import Batch, masked_mean
from .fusion import FusionStep
from .method import Method, trained


class SupervisedStep(FusionStep):
    """Joined features, true labels."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Cross-entropy on the target's labels."""
        losses = label_loss(self.net(batch).logits, batch["label"])
        return masked_mean(losses, batch["label"] >= 0)


def _supervised(chain: Chain) -> Predictor:
    step = SupervisedStep("supervised-fusion", chain)
    net = trained(step, chain, chain.labeled_cloudy_samples())
    return lambda batch: net(batch).logits.softmax(dim=1)


SUPERVISED_FUSION = Method(_supervised, "upper bound: labels of the target", deployable=False)
CLEAR_TEACHER = Method(
    lambda chain: unimodal(chain.teacher, "clear"), "upper bound: no clouds", deployable=False
)
