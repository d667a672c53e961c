"""Sub-task F1: the auxiliaries f'_SAR and f'_Opt, taught by the frozen teacher.

The SAR auxiliary learns only where the teacher can be believed: SAR does not see clouds, so what
it learns on clear samples holds on clouded ones. The optical auxiliary learns either as the paper
draws it, from the teacher alone, or from both (``auxiliary.blend``): the SAR auxiliary then answers
for the teacher where clouds hide the ground, which helps where SAR alone tells the classes apart
and harms where it does not.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...learning.augment import augmented
from ...learning.losses import distillation_loss, label_loss, soften
from ...learning.networks import UnimodalNet
from ...learning.reliability import trusted_decision
from ...scene_options import TrainOptions
from ..stage import Batch, Stage, kept_mean, masked_mean
from .teacher_answers import Supervision, TeacherAnswer

Modality = Literal["optical", "sar"]


class AuxiliaryStage(Stage[UnimodalNet]):
    """What both auxiliaries share: shape of the network, true labels, what is logged.

    Args:
        channels: Channels of the modality.
        class_weights: ``(K,)`` factor per class for true labels.
        options: The run.
        supervision: What the teacher answers.

    Attributes:
        modality: What the network sees.
    """

    modality: Modality

    def __init__(
        self, channels: int, class_weights: Tensor, options: TrainOptions, supervision: Supervision
    ) -> None:
        part = getattr(options.auxiliary, self.modality)
        net = UnimodalNet(channels, len(class_weights), part, options.auxiliary.dropout)
        name = f"{self.modality}-auxiliary"
        super().__init__(net, options.auxiliary.schedule, name, options.seed)
        self.options = options
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.class_weights: Tensor
        self.keep_frozen(teacher=supervision.answers)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss on what the teacher answers, and on true labels if the run uses them."""
        images = {name: batch[name] for name in ("clear", "optical", "sar")}
        batch = {**batch, **augmented(images, self.options.augment)}
        present = batch["availability"][:, 0 if self.modality == "optical" else 1] > 0
        answer = self.frozen("teacher")(batch)
        logits = self.net(batch[self.modality])
        taught, logged = self.taught_loss(batch, logits, answer, present)
        if weight := self.options.distillation.label_weight:
            labeled = present & (batch["label"] >= 0)
            by_label = label_loss(logits, batch["label"])
            by_label = by_label * self.class_weights[batch["label"].clamp_min(0)]
            taught = taught + weight * masked_mean(by_label, labeled)
        right = logits.argmax(dim=1) == batch["label"]
        logged["accuracy"] = masked_mean(right.float(), present & (batch["label"] >= 0))
        return taught, logged

    def taught_loss(
        self, batch: Batch, logits: Tensor, answer: TeacherAnswer, present: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss on the teacher's answers and what to log."""
        raise NotImplementedError


class FilteredAuxiliaryStage(AuxiliaryStage):
    """Learns from answers that pass the filter: confident and nearly clear."""

    def __init__(
        self, channels: int, class_weights: Tensor, options: TrainOptions, supervision: Supervision
    ) -> None:
        super().__init__(channels, class_weights, options, supervision)
        self.pseudo_labels = supervision.pseudo_labels

    def taught_loss(
        self, batch: Batch, logits: Tensor, answer: TeacherAnswer, present: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy on the kept answers plus distillation of them."""
        temperature = self.options.distillation.temperature
        probabilities = soften(answer.logits)
        kept = present & self.pseudo_labels.keep(probabilities, answer.reliability)
        losses = label_loss(logits, probabilities.argmax(dim=1)) + distillation_loss(
            soften(answer.logits, temperature), logits, temperature
        )
        return masked_mean(losses, kept), {"kept_share": kept.float().mean()}


class SarAuxiliaryStage(FilteredAuxiliaryStage):
    """The SAR auxiliary."""

    modality: Modality = "sar"


class ApartOpticalStage(FilteredAuxiliaryStage):
    """The optical auxiliary that learns from the teacher alone, as the SAR auxiliary does."""

    modality: Modality = "optical"


class OpticalAuxiliaryStage(AuxiliaryStage):
    """Learns from the teacher where it is clear and from the SAR auxiliary where it is not."""

    modality: Modality = "optical"

    def __init__(
        self,
        channels: int,
        class_weights: Tensor,
        options: TrainOptions,
        supervision: Supervision,
        sar_auxiliary: UnimodalNet,
    ) -> None:
        super().__init__(channels, class_weights, options, supervision)
        self.keep_frozen(sar_auxiliary=sar_auxiliary)

    def taught_loss(
        self, batch: Batch, logits: Tensor, answer: TeacherAnswer, present: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Distillation of the blend, plus cross-entropy on its answer where it is confident."""
        temperature = self.options.distillation.temperature
        with torch.no_grad():
            sar_logits = self.frozen("sar_auxiliary")(batch["sar"])
        has_sar = (batch["availability"][:, 1] > 0).float()
        reliability = torch.maximum(answer.reliability, 1 - has_sar)
        blend = trusted_decision(answer.logits, sar_logits, reliability)
        softened = trusted_decision(answer.logits, sar_logits, reliability, temperature)
        confidence, label = blend.max(dim=1)
        kept = present & (confidence >= self.options.auxiliary.filter.confidence)
        loss = masked_mean(distillation_loss(softened, logits, temperature), present)
        loss = loss + kept_mean(label_loss(logits, label), kept, present)
        return loss, {"kept_share": kept.float().mean()}
