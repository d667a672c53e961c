"""The first stage: the teacher f_S learns from labels on cloud-free optical images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ...learning.augment import augmented, mixed
from ...learning.losses import distillation_loss
from ...learning.networks import UnimodalNet
from ...learning.reliability import teacher_reliability
from ...scene_options import TrainOptions
from ..stage import Batch, Stage, masked_mean


class TeacherStage(Stage[UnimodalNet]):
    """Cross-entropy on true labels, smoothed, with classes weighted alike.

    Args:
        channels: Optical channels.
        class_weights: ``(K,)`` factor per class.
        options: The run.
        name: Names the stage's files and its draws.
    """

    def __init__(
        self, channels: int, class_weights: Tensor, options: TrainOptions, name: str = "teacher"
    ) -> None:
        net = UnimodalNet(
            channels, len(class_weights), options.teacher.network, options.teacher.dropout
        )
        super().__init__(net, options.teacher.schedule, name, options.seed)
        self.options = options
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.class_weights: Tensor

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Soft cross-entropy on clear images; pairs without one or without a label do not count."""
        usable = self._usable(batch)
        labels = batch["label"].clamp_min(0)
        images = augmented({"clear": batch["clear"]}, self.options.augment)["clear"]
        targets = self._targets(labels)
        if torch.rand(()) < self.options.augment.mix_share and bool(usable.all()):
            images, targets = mixed(images, targets)
        weights = self.class_weights[labels]
        logits = self.net(images)
        right = logits.argmax(dim=1) == labels
        return masked_mean(weights * distillation_loss(targets, logits, 1.0), usable), {
            "accuracy": masked_mean(right.float(), usable)
        }

    def _usable(self, batch: Batch) -> Tensor:
        usable = (batch["label"] >= 0) & (batch["availability"][:, 0] > 0)
        if not self.options.clouds.simulate:  # the images may hold real clouds
            low, high = self.options.distillation.reliable_clear_share
            usable &= teacher_reliability(batch["reliability"], low, high) > 0
        return usable

    def _targets(self, labels: Tensor) -> Tensor:
        classes = len(self.class_weights)
        smoothing = self.options.teacher.label_smoothing
        one_hot = functional.one_hot(labels, classes).float()
        return one_hot * (1 - smoothing) + smoothing / classes
