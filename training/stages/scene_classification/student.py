"""Sub-task F2: the student, taught by the teacher and both auxiliaries through IRM.

No sample is filtered out: the student must see the clouded ones to learn which modality to trust.
The teacher's loss is weighted by its reliability, and its answers that pass the filter count as
labels too; the auxiliaries' losses are weighted by IRM. The gate is supervised by the same
contributions the other way round, times the share of each modality that can be used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...learning.augment import augmented
from ...learning.irm import (
    clear_share_target,
    contributions,
    gate_target,
    log_ratio,
    modality_weights,
    present_weights,
)
from ...learning.losses import distillation_loss, gate_loss, label_loss, soften
from ...learning.networks import StudentNet, UnimodalNet
from ...learning.reliability import known_or, trusted_decision
from ...scene_options import TrainOptions
from ..stage import Batch, Stage, kept_mean, masked_mean
from .teacher_answers import Supervision, TeacherAnswer


class StudentStage(Stage[StudentNet]):
    """The target model f_T.

    Args:
        channels: Optical and SAR channels.
        class_weights: ``(K,)`` factor per class for true labels.
        options: The run.
        supervision: What the teacher f_S answers, and which answers are taken for labels.
        optical_auxiliary: f'_Opt.
        sar_auxiliary: f'_SAR.
        name: Names the stage's files and its draws.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        class_weights: Tensor,
        options: TrainOptions,
        supervision: Supervision,
        optical_auxiliary: UnimodalNet,
        sar_auxiliary: UnimodalNet,
        name: str = "student",
    ) -> None:
        part = options.student
        net = StudentNet(*channels, len(class_weights), part.optical, part.sar, part.dropout)
        if options.warm_start:
            net.start_from(optical_auxiliary, sar_auxiliary)
        super().__init__(net, part.schedule, name, options.seed)
        self.options = options
        self.pseudo_labels = supervision.pseudo_labels
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.class_weights: Tensor
        self.keep_frozen(teacher=supervision.answers, optical=optical_auxiliary, sar=sar_auxiliary)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """``teacher + IRM-weighted auxiliaries + gate + labels``; see the module docstring."""
        images = {name: batch[name] for name in ("clear", "optical", "sar")}
        batch = {**batch, **augmented(images, self.options.augment)}
        answer = self.frozen("teacher")(batch)
        optical, sar = self.asked(batch)
        features = self.net.features(batch["optical"], batch["sar"], batch["availability"])
        logits, gate = self.net.answer(features, batch["availability"])
        decision = self._decision(batch, answer, optical, sar)
        share = contributions(decision, *self.measured(batch, optical, sar))
        weights = self._weights(share, batch["availability"])
        losses = {
            "teacher_loss": self._teacher_loss(answer, logits),
            "auxiliary_loss": self.options.student.auxiliary_weight
            * self.auxiliary_loss(batch, weights, (optical, sar), features, logits),
            "gate_loss": self._gate_loss(gate, share, batch),
            "label_loss": self._label_loss(logits, batch["label"]),
        }
        right = logits.argmax(dim=1) == batch["label"]
        logged = {
            **losses,
            "accuracy": masked_mean(right.float(), batch["label"] >= 0),
            "optical_weight": weights[:, 0].mean(),
            "optical_gate": gate[:, 0].mean(),
        }
        return torch.stack(list(losses.values())).sum(), logged

    @torch.no_grad()
    def asked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what the auxiliaries answer, which teaches and by default is measured too."""
        return self.frozen("optical")(batch["optical"]), self.frozen("sar")(batch["sar"])

    def measured(self, batch: Batch, optical: Tensor, sar: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits that the contributions are measured on: those of the auxiliaries."""
        return optical, sar

    def _decision(
        self, batch: Batch, answer: TeacherAnswer, optical: Tensor, sar: Tensor
    ) -> Tensor:
        """What the contributions are measured against."""
        has_sar = batch["availability"][:, 1:] > 0
        second = torch.where(has_sar, sar, optical)
        decision = trusted_decision(answer.logits, second, answer.reliability)
        if self.options.distillation.label_weight:
            decision = known_or(decision, batch["label"])
        return decision

    def _weights(self, share: Tensor, availability: Tensor) -> Tensor:
        irm = self.options.student.irm
        weights = modality_weights(log_ratio(share), irm)
        if self.current_epoch < irm.warmup_epochs:
            weights = torch.ones_like(weights)
        return present_weights(weights, availability)

    def _teacher_loss(self, answer: TeacherAnswer, logits: Tensor) -> Tensor:
        temperature = self.options.distillation.temperature
        losses = distillation_loss(soften(answer.logits, temperature), logits, temperature)
        soft = (answer.reliability * losses).mean()
        return self.options.student.teacher_weight * (soft + self.answer_loss(answer, logits))

    def answer_loss(self, answer: TeacherAnswer, logits: Tensor) -> Tensor:
        """Cross-entropy on the teacher's answers that pass the filter, as if they were labels."""
        probabilities = soften(answer.logits)
        kept = self.pseudo_labels.keep(probabilities, answer.reliability)
        losses = label_loss(logits, probabilities.argmax(dim=1))
        return kept_mean(losses, kept, torch.ones_like(kept))

    def auxiliary_loss(
        self,
        batch: Batch,
        weights: Tensor,
        taught: tuple[Tensor, Tensor],
        features: tuple[Tensor, Tensor],
        logits: Tensor,
    ) -> Tensor:
        """Sum of both auxiliaries' weighted distillation losses.

        Args:
            batch: What the student sees.
            weights: ``(N, 2)`` of information regulation; 0 where the modality is absent.
            taught: Logits of the auxiliaries, optical first.
            features: Features of the student's branches.
            logits: Of the student.
        """
        temperature = self.options.distillation.temperature
        losses = [
            weight * distillation_loss(soften(own, temperature), logits, temperature)
            for weight, own in zip(weights.unbind(dim=1), taught, strict=True)
        ]
        return torch.stack(losses).sum(dim=0).mean()

    def _gate_loss(self, gate: Tensor, share: Tensor, batch: Batch) -> Tensor:
        part = self.options.student
        if part.gate_target == "clear-share":
            target = clear_share_target(usable_share(batch, 1 - batch["cover"]))
        else:
            usable = usable_share(batch, batch["reliability"])
            target = gate_target(share, usable, part.gate_sharpness)
        return part.gate_weight * gate_loss(gate, target).mean()

    def _label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = label_loss(logits, labels) * self.class_weights[labels.clamp_min(0)]
        return self.options.distillation.label_weight * masked_mean(losses, labels >= 0)


def usable_share(batch: Batch, clear: Tensor) -> Tensor:
    """Availability ``(N, 2)`` with the optical one cut down to a clear share ``(N,)``."""
    return batch["availability"] * torch.stack((clear, torch.ones_like(clear)), dim=1)
