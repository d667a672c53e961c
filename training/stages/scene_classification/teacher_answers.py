"""What the teacher answers on a batch, and how far it can be believed there.

Asked view by view, or once for all views of a place: an archive holds many acquisitions of a
place, the ground stays what it is, and so what the teacher answers on the clear ones holds for
the cloudy ones too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ...learning.losses import soften
from ...learning.networks import Ensemble, UnimodalNet
from ...learning.own_teacher import AnyTeacher, AskedTeacher
from ...learning.pseudo_labels import PseudoLabelFilter
from ...learning.reliability import teacher_reliability
from ...scene_options import DistillationOptions
from ..stage import Batch


@dataclass(frozen=True)
class TeacherAnswer:
    """Answers of the frozen teacher.

    Attributes:
        logits: ``(N, K)``.
        reliability: ``(N,)`` belief in them, in [0, 1].
    """

    logits: Tensor
    reliability: Tensor


class EachView(nn.Module):
    """Asks the teacher about every view on its own.

    On the clear image of a pair it is fully believed. On the cloudy one the belief follows the
    clear share estimated from the image; where there is no image it is 0.

    Args:
        teacher: The teacher.
        options: Which image it sees, and the clear shares between doubt and belief.
    """

    def __init__(self, teacher: nn.Module, options: DistillationOptions) -> None:
        super().__init__()
        self.teacher = teacher
        self.options = options

    @torch.no_grad()
    def forward(self, batch: Batch) -> TeacherAnswer:
        """Answer for a batch of samples."""
        if self.options.teacher_input == "clear":
            seen = batch["clear"].flatten(1).any(dim=1)
            return TeacherAnswer(self.teacher(batch["clear"]), seen.float())
        reliability = teacher_reliability(batch["reliability"], *self.options.reliable_clear_share)
        seen = batch["availability"][:, 0] > 0
        return TeacherAnswer(self.teacher(batch["optical"]), reliability * seen)


class AllViews(nn.Module):
    """Answers with the mean over all views of a place, each weighted by its reliability.

    The belief in the mean is that in the most reliable view.

    Args:
        each_view: How single views are answered.
        batches: Every view of every training pair, once.
        count: Pairs of the data set.
    """

    logits: Tensor
    reliability: Tensor

    def __init__(self, each_view: EachView, batches: Iterable[Batch], count: int) -> None:
        super().__init__()
        total, weight, best = None, torch.zeros(count), torch.zeros(count)
        for batch in batches:
            answer, places = each_view(batch), batch["index"]
            believed = answer.reliability[:, None] * soften(answer.logits)
            total = torch.zeros(count, believed.shape[1]) if total is None else total
            total.index_add_(0, places, believed)
            weight.index_add_(0, places, answer.reliability)
            best[places] = torch.maximum(best[places], answer.reliability)
        if total is None:
            raise ValueError("no view of any pair")
        mean = total / weight[:, None].clamp_min(1e-12)
        mean[weight == 0] = 1 / mean.shape[1]
        self.register_buffer("logits", torch.log(mean.clamp_min(1e-6)), persistent=False)
        self.register_buffer("reliability", best, persistent=False)

    def forward(self, batch: Batch) -> TeacherAnswer:
        """Answer for the places of a batch; its images are not looked at."""
        places = batch["index"]
        return TeacherAnswer(self.logits[places], self.reliability[places])


@dataclass(frozen=True)
class Supervision:
    """The teacher as the stages after it use it.

    Attributes:
        teacher: The network.
        answers: Batch -> its `TeacherAnswer`.
        pseudo_labels: Which of its answers may be taken for labels.
        report: How many are, and how many of these are right; see `filter_report`.
    """

    teacher: AnyTeacher
    answers: EachView | AllViews
    pseudo_labels: PseudoLabelFilter
    report: dict[str, float]

    @property
    def first_teacher(self) -> UnimodalNet:
        """The network whose weights others may start at.

        Raises:
            ValueError: The teacher was not trained here; see `TrainOptions.starts_at_teacher`.
        """
        if isinstance(self.teacher, AskedTeacher):
            raise ValueError("nothing can start at the weights of a teacher from elsewhere")
        if isinstance(self.teacher, Ensemble):
            return cast(UnimodalNet, self.teacher.members[0])
        return self.teacher


@dataclass(frozen=True)
class KnownAnswers:
    """Answers on every view of the training pairs, in order.

    Attributes:
        probabilities: ``(N, K)``.
        reliability: ``(N,)``.
        labels: ``(N,)`` int64, -1 where not known.
    """

    probabilities: Tensor
    reliability: Tensor
    labels: Tensor

    @classmethod
    def of(cls, answers: nn.Module, batches: Iterable[Batch]) -> KnownAnswers:
        """Ask about all views."""
        found = [(answers(batch), batch["label"]) for batch in batches]
        return cls(
            torch.cat([soften(answer.logits) for answer, _ in found]),
            torch.cat([answer.reliability for answer, _ in found]),
            torch.cat([labels for _, labels in found]),
        )
