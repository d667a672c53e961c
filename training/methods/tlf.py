"""TLF: plain fusion of optical and SAR, early, middle or late, taught by the teacher.

The paper cited by ESCCS (Signal Processing 213, 109165, 2023) is a review of fusion networks and
fixes none, so all is our choice: early stacks the channels, middle joins the features, late
averages the answers of two networks that are taught alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..judging.judge import Predictor
from ..learning.networks import UnimodalNet
from ..stages.stage import Batch
from .fusion import FusionNet, FusionStage, fusion_net, fusion_predictor
from .method import Method, MethodStage, trained, unimodal_net
from .shared import Shared


class EarlyStage(MethodStage[UnimodalNet]):
    """One network over all channels."""

    sees_both = True

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation of the confident answers."""
        return self.imitation(self.net(stacked(batch)), self.taught(batch))


class MiddleStage(FusionStage[FusionNet]):
    """Joined features, one head."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation of the confident answers."""
        return self.imitation(self.net(batch).logits, self.taught(batch))


class LateStage(FusionStage[FusionNet]):
    """Two networks, each with its own head and loss."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation of the confident answers, by each modality alone that is there."""
        fused, taught = self.net(batch), self.taught(batch)
        optical, sar = (batch["availability"] > 0).unbind(dim=1)
        return self.imitation(fused.optical, taught.where(optical)) + self.imitation(
            fused.sar, taught.where(sar)
        )


def stacked(batch: Batch) -> Tensor:
    """``(N, C + P, H, W)``."""
    return torch.cat((batch["optical"], batch["sar"]), dim=1)


def _early(shared: Shared) -> Predictor:
    net = unimodal_net(shared, "tlf-early", "optical", sum(shared.run.channels))
    stage = EarlyStage("tlf-early", net, shared, filtered=shared.filter)
    trained_net = trained(stage, shared)
    return lambda batch: torch.softmax(trained_net(stacked(batch)), dim=1)


def _middle(shared: Shared) -> Predictor:
    stage = MiddleStage("tlf-middle", fusion_net(shared, "tlf-middle"), shared)
    return fusion_predictor(stage, shared)


def _late(shared: Shared) -> Predictor:
    net = trained(LateStage("tlf-late", fusion_net(shared, "tlf-late"), shared), shared)

    def predict(batch: Batch) -> Tensor:
        fused, present = net(batch), (batch["availability"] > 0).float()
        answers = torch.stack((fused.optical, fused.sar), dim=1).softmax(dim=2)
        share = present / present.sum(dim=1, keepdim=True).clamp_min(1)
        absent = (present.sum(dim=1, keepdim=True) == 0).float() / answers.shape[2]
        return (answers * share[:, :, None]).sum(dim=1) + absent

    return predict


EARLY = Method(_early, "one network over stacked channels")
MIDDLE = Method(_middle, "a SAR branch, joined features")
LATE = Method(_late, "a SAR network, mean of both answers")
