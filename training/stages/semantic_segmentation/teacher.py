"""The first stage: the teacher learns from labels on clear optical images and SAR."""

from __future__ import annotations

import torch
from torch import Tensor

from ...learning.cloudseg import CloudSegTeacher, Seen
from ...learning.map_losses import segmentation_loss
from ...segmentation_options import SegmentationOptions
from ..stage import Batch
from .map_stage import MapStage


class MapTeacherStage(MapStage[CloudSegTeacher]):
    """Cross-entropy on clear images.

    Args:
        channels: Optical and SAR channels.
        classes: K.
        options: The run.
        name: Names the stage's files and its draws.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        classes: int,
        options: SegmentationOptions,
        name: str = "teacher",
    ) -> None:
        net = CloudSegTeacher(*channels, classes, options.network)
        super().__init__(net, options.teacher.schedule, name, options.seed)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch."""
        there = shown_clear(batch)
        logits = self.net(batch["clear"], batch["sar"], there).logits
        return segmentation_loss(logits, batch["target"]), {}

    def answers(self, net: CloudSegTeacher, batch: Batch) -> Tensor:
        """Logits for the clear images of a batch."""
        seen: Seen = net(batch["clear"], batch["sar"], shown_clear(batch))
        return seen.logits


def shown_clear(batch: Batch) -> Tensor:
    """Availability ``(N, 2)`` of the clear image and SAR, whichever of them the student lacks."""
    return torch.stack(
        [batch[name].flatten(1).any(dim=1).float() for name in ("clear", "sar")], dim=1
    )
