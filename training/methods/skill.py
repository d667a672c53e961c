"""Regulation by what each modality is worth on places that its auxiliary did not learn.

An auxiliary may remember the places that it learned and know nothing of the next one; taught by it,
the student learns to trust its modality all the same. Auxiliaries that learned on the other half of
the places (`crosswise`) tell: how far they agree with the source model, where that can be believed,
is the skill of their modality. In ``esccs-skill`` the skills weigh both losses of the second
sub-task and both sides of the gate, alike for all samples; in ``esccs-trusting`` the
contributions are measured so sample by sample, and the stronger modality is boosted. All our
choice, none from the paper.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..learning.losses import soften
from ..stages.scene_classification.student import StudentStage
from ..stages.stage import Batch
from .method import gated
from .shared import Shared
from .told import EQUIPPED

#: Least skill, so that no modality is switched off by chance.
LEAST = 0.01
#: How strongly the stronger modality of a sample is boosted.
TRUST = -1.5
#: Two auxiliaries, two more pairs on half of the places each, and the student.
GIFTS = replace(EQUIPPED, stages=5)


class Skill(nn.Module):
    """``(N, 2)`` weights of both modalities -> the same times their skills, each row's sum kept.

    Args:
        skill: ``(2,)``, optical first.
    """

    skill: Tensor

    def __init__(self, skill: Tensor) -> None:
        super().__init__()
        self.register_buffer("skill", skill, persistent=False)

    def forward(self, weights: Tensor) -> Tensor:
        """See the class."""
        found = weights * self.skill
        total = found.sum(dim=1, keepdim=True).clamp_min(1e-12)
        return found * weights.sum(dim=1, keepdim=True) / total


@torch.no_grad()
def skills(source: nn.Module, others: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """Measure the skill of optical and SAR.

    For each class that the source model answers, the mean probability that an auxiliary gives it,
    weighted by the belief in the source model; of these the mean, so that a modality earns nothing
    by the most frequent class; and of it what is above chance.

    Args:
        source: Batch -> `TeacherAnswer`.
        others: Batch -> logits of the optical and of the SAR auxiliary that did not learn each
            place.
        batches: All views of the target.

    Returns:
        ``(2,)``, from `LEAST` to 1.
    """
    agreed, believed = [], []
    for batch in batches:
        answer = source(batch)
        decided = soften(answer.logits).argmax(dim=1)
        belief = answer.reliability[:, None] * (batch["availability"] > 0)
        given = [own.softmax(dim=1).gather(1, decided[:, None])[:, 0] for own in others(batch)]
        classes = torch.nn.functional.one_hot(decided, answer.logits.shape[1]).to(belief.dtype)
        believed.append(classes.T @ belief)
        agreed.append(classes.T @ (belief * torch.stack(given, dim=1)))
    found = []
    for right, total in zip(
        torch.stack(agreed).sum(0).T, torch.stack(believed).sum(0).T, strict=True
    ):
        known = total > 0
        chance = 1 / max(int(known.sum()), 2)
        share = float((right[known] / total[known]).mean()) if known.any() else chance
        found.append(max((share - chance) / (1 - chance), LEAST))
    return torch.tensor(found)


class SkilledStage(StudentStage):
    """The skills weigh losses and gate."""

    def _weights(self, share: Tensor, availability: Tensor) -> Tensor:
        weights: Tensor = self.frozen("skill")(super()._weights(share, availability))
        return weights

    def _gate_loss(self, gate: Tensor, share: Tensor, batch: Batch) -> Tensor:
        return super()._gate_loss(gate, self.frozen("skill")(share), batch)


class MeasuredApartStage(StudentStage):
    """Contributions are of auxiliaries that did not learn the place."""

    @torch.no_grad()
    def measured(self, batch: Batch, optical: Tensor, sar: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        found: tuple[Tensor, Tensor] = self.frozen("crosswise")(batch)
        return found


def _skilled(shared: Shared) -> nn.Module:
    assert shared.crosswise is not None
    worth = skills(shared.supervision.answers, shared.crosswise, shared.run.every_view())
    return shared.train_student(
        shared.options_with_beta(0.0), "esccs-skill", SkilledStage, skill=Skill(worth)
    )


def _trusting(shared: Shared) -> nn.Module:
    assert shared.crosswise is not None
    return shared.train_student(
        shared.options_with_beta(TRUST),
        "esccs-trusting",
        MeasuredApartStage,
        crosswise=shared.crosswise,
    )


SKILL = gated(
    _skilled, "ESCCS, losses and gate weighed by each modality's skill on places not learned",
    "auxiliaries", "crosswise", gifts=GIFTS,
)  # fmt: skip
TRUSTING = gated(
    _trusting, "ESCCS, the stronger modality boosted, measured on places not learned",
    "auxiliaries", "crosswise", gifts=GIFTS,
)  # fmt: skip
