"""Cloud removal, then segmentation: the clear teacher reads a restored image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...learning.map_losses import removal_loss
from ...stages.semantic_segmentation.teacher import shown_clear
from ...stages.stage import Batch
from .fusion import unet
from .method import LabelStage, MapMethod, MapPredictor, MapShared
from .told import AS_PUBLISHED

NAME = "removal-then-segmentation"


class RemovalStage(LabelStage):
    """A U-Net of both images that restores the clear one; no label is looked at."""

    def __init__(self, net: nn.Module, shared: MapShared) -> None:
        super().__init__(NAME, net, shared)
        self.keep_frozen(teacher=shared.teacher)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The removal loss of CloudSeg, on normalized pixels."""
        return removal_loss(self.net(batch), batch["clear"], batch["cloud"]), {}

    def answers(self, net: nn.Module, batch: Batch) -> Tensor:
        """Logits of the teacher for the restored image."""
        restored = net(batch)
        logits: Tensor = self.frozen("teacher")(restored, batch["sar"], shown_clear(batch)).logits
        return logits


def _predictor(shared: MapShared) -> MapPredictor:
    shared.run.seed_weights(NAME)
    stage = RemovalStage(unet(shared, [["optical", "sar"]], shared.run.channels[0]), shared)
    net = shared.fit(stage)
    teacher = stage.frozen("teacher").cpu()

    @torch.no_grad()
    def predict(batch: Batch) -> Tensor:
        logits: Tensor = teacher(net(batch), batch["sar"], shown_clear(batch)).logits
        return logits

    return predict


METHOD = MapMethod(
    _predictor, "cloud removal, then the clear teacher on the restored image", AS_PUBLISHED
)
