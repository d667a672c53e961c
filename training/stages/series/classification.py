"""Stages of series classification: the teacher on complete series, the student on masked ones.

The student learns two tasks at once (Joint-FRP, arXiv 2505.19159; losses ours): to reconstruct the
teacher's features at the dates that it does not see, and to predict from what it has reconstructed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...learning.losses import distillation_loss, label_loss, soften
from ...learning.series.pixel_series import PixelSeriesNet, SeriesAnswer
from ...learning.series.reconstruction import reconstruction_loss, summary_loss
from ...series_options import SeriesStudentOptions, SeriesTeacherOptions
from ..stage import Batch, Stage, masked_mean
from .shown import complete, kept


class SeriesTeacherStage(Stage[PixelSeriesNet]):
    """Cross-entropy on all observed dates.

    Args:
        net: The teacher.
        sensors: Names of its inputs.
        options: Its schedule.
        seed: Of the run.
    """

    def __init__(
        self, net: PixelSeriesNet, sensors: Sequence[str], options: SeriesTeacherOptions, seed: int
    ) -> None:
        super().__init__(net, options.schedule, "teacher", seed)
        self.sensors = sensors

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy of known labels."""
        answer = self.net.answer(*kept(batch, self.sensors))  # only whole sensors are left out
        return _label_loss(answer.logits, batch["label"]), {}


class SeriesStudentStage(Stage[PixelSeriesNet]):
    """Labels and teacher on masked series; see the module.

    Args:
        net: The student; it begins at the teacher's weights where both have the same parts.
        teacher: The teacher.
        sensors: Names of their inputs.
        options: Weights and schedule.
        name: Of the stage.
        seed: Of the run.
    """

    def __init__(
        self,
        net: PixelSeriesNet,
        teacher: PixelSeriesNet,
        sensors: Sequence[str],
        options: SeriesStudentOptions,
        name: str,
        seed: int,
    ) -> None:
        super().__init__(net, options.schedule, name, seed)
        for own in (self.net, self.average):
            own.load_state_dict(teacher.state_dict(), strict=False)
        self.keep_frozen(teacher=teacher)
        self.sensors, self.options = sensors, options

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of prediction, teacher's answers and reconstruction."""
        options = self.options
        answer = self.net.answer(*kept(batch, self.sensors))
        loss = _label_loss(answer.logits, batch["label"])
        logged = {"label": loss}
        taught = self._taught(batch)
        if options.answer_weight:
            target = soften(taught.logits, options.answer_temperature)
            distance = distillation_loss(target, answer.logits, options.answer_temperature).mean()
            loss, logged["answers"] = loss + options.answer_weight * distance, distance
        if options.reconstruction_weight:
            distance = self._reconstruction(answer, taught)
            rising = min(1.0, (self.current_epoch + 1) / max(1, options.warmup_epochs))
            loss = loss + rising * options.reconstruction_weight * distance
            logged["reconstruction"] = distance
        if torch.rand(()) < options.complete_share:
            whole = self.net.answer(*complete(batch, self.sensors))
            loss = loss + _label_loss(whole.logits, batch["label"])
        return loss, logged

    def _taught(self, batch: Batch) -> SeriesAnswer:
        teacher = self.frozen("teacher")
        assert isinstance(teacher, PixelSeriesNet)
        with torch.no_grad():
            return teacher.answer(*complete(batch, self.sensors))

    def _reconstruction(self, answer: SeriesAnswer, taught: SeriesAnswer) -> Tensor:
        assert answer.filled is not None
        missing = (taught.seen > 0) & (answer.seen == 0)
        parts = [
            reconstruction_loss(found, known, missing[:, i])
            for i, (found, known) in enumerate(zip(answer.filled, taught.features, strict=True))
        ]
        of_season = summary_loss(answer.summary, taught.summary)
        return torch.stack(parts).mean() + self.options.global_weight * of_season


def _label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return masked_mean(label_loss(logits, labels), labels >= 0)
