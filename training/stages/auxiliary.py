"""Sub-task F1: the auxiliaries f'_SAR and f'_Opt, taught by the frozen source model.

The SAR auxiliary learns only where the source model can be believed: SAR does not see clouds, so
what it learns on clear samples holds on clouded ones. It then answers for the source model where
clouds hide the ground, and the optical auxiliary learns from both, blended by reliability. (Under
opaque clouds the plain recipe, source model to both, fails.)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..learning.augment import augmented
from ..learning.losses import distillation_loss, label_loss, soften
from ..learning.networks import UnimodalNet
from ..learning.pseudo_labels import PseudoLabelFilter
from ..learning.reliability import trusted_decision
from ..options import TrainOptions
from .stage import Batch, Step, masked_mean
from .teacher_answers import SourceAnswer

Modality = Literal["optical", "sar"]


class AuxiliaryStep(Step):
    """What both auxiliaries share: shape of the network, true labels, what is logged.

    Args:
        modality: What the network sees.
        channels: Its channels.
        class_weights: ``(K,)`` factor per class for true labels.
        options: The run.
        source: Answers for the source model.
    """

    modality: Modality

    def __init__(
        self, channels: int, class_weights: Tensor, options: TrainOptions, source: nn.Module
    ) -> None:
        part = getattr(options.auxiliary, self.modality)
        net = UnimodalNet(
            channels,
            len(class_weights),
            part,
            options.auxiliary.dropout,
        )
        name = f"{self.modality}-auxiliary"
        super().__init__(net, options.auxiliary.schedule, name, options.seed)
        self.options = options
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.class_weights: Tensor
        self.keep_frozen(source=source)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss on what the source model teaches, and on true labels if the run uses them."""
        views = {name: batch[name] for name in ("clear", "optical", "sar")}
        batch = {**batch, **augmented(views, self.options.augment)}
        present = batch["availability"][:, 0 if self.modality == "optical" else 1] > 0
        source = self.frozen("source")(batch)
        logits = self.net(batch[self.modality])
        taught, logged = self.taught_loss(batch, logits, source, present)
        if weight := self.options.distillation.label_weight:
            labeled = present & (batch["label"] >= 0)
            by_label = label_loss(logits, batch["label"])
            by_label = by_label * self.class_weights[batch["label"].clamp_min(0)]
            taught = taught + weight * masked_mean(by_label, labeled)
        right = logits.argmax(dim=1) == batch["label"]
        logged["accuracy"] = masked_mean(right.float(), present & (batch["label"] >= 0))
        return taught, logged

    def taught_loss(
        self, batch: Batch, logits: Tensor, source: SourceAnswer, present: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss on the source model's answers and what to log."""
        raise NotImplementedError


class SarAuxiliaryStep(AuxiliaryStep):
    """Learns from answers that pass the filter: confident and nearly clear."""

    modality: Modality = "sar"

    def __init__(
        self,
        channels: int,
        class_weights: Tensor,
        options: TrainOptions,
        source: nn.Module,
        pseudo_labels: PseudoLabelFilter,
    ) -> None:
        super().__init__(channels, class_weights, options, source)
        self.pseudo_labels = pseudo_labels

    def taught_loss(
        self, batch: Batch, logits: Tensor, source: SourceAnswer, present: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy on the kept answers plus distillation of them."""
        temperature = self.options.distillation.temperature
        probabilities = soften(source.logits)
        kept = present & self.pseudo_labels.keep(probabilities, source.reliability)
        losses = label_loss(logits, probabilities.argmax(dim=1)) + distillation_loss(
            soften(source.logits, temperature), logits, temperature
        )
        return masked_mean(losses, kept), {"kept_share": kept.float().mean()}


class OpticalAuxiliaryStep(AuxiliaryStep):
    """Learns from the source model where it is clear and from the SAR auxiliary where it is not."""

    modality: Modality = "optical"

    def __init__(
        self,
        channels: int,
        class_weights: Tensor,
        options: TrainOptions,
        source: nn.Module,
        sar_auxiliary: nn.Module,
    ) -> None:
        super().__init__(channels, class_weights, options, source)
        self.keep_frozen(source=source, sar_auxiliary=sar_auxiliary)

    def taught_loss(
        self, batch: Batch, logits: Tensor, source: SourceAnswer, present: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Distillation of the blend, plus cross-entropy on its answer where it is confident."""
        temperature = self.options.distillation.temperature
        with torch.no_grad():
            sar_logits = self.frozen("sar_auxiliary")(batch["sar"])
        has_sar = (batch["availability"][:, 1] > 0).float()
        reliability = torch.maximum(source.reliability, 1 - has_sar)
        blend = trusted_decision(source.logits, sar_logits, reliability)
        softened = trusted_decision(source.logits, sar_logits, reliability, temperature)
        confidence, answer = blend.max(dim=1)
        kept = present & (confidence >= self.options.auxiliary.filter.confidence)
        loss = masked_mean(distillation_loss(softened, logits, temperature), present)
        loss = loss + masked_mean(label_loss(logits, answer), kept)
        return loss, {"kept_share": kept.float().mean()}
