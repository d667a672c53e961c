"""ESCCS with one thing changed: what each of its parts is worth.

Parts that the paper claims: each sub-task, information regulation, soft teaching, the source model
as third teacher of the second sub-task. Parts that are ours: the optical auxiliary that learns from
SAR too (``auxiliary.blend``), the supervised gate, the start at the auxiliaries. One row is given
more: ``esccs-archive`` has clear dates of the target, and all dates joined.
Other forms of regulation are in `regulation`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..judging.judge import Predictor
from ..learning.losses import label_loss
from ..learning.networks import UnimodalNet
from ..stages.scene_classification.student import StudentStage
from ..stages.scene_classification.teacher_answers import TeacherAnswer
from ..stages.stage import Batch
from .method import Method, gated
from .shared import Shared
from .told import EQUIPPED

#: Share of exactly clear dates in the archive of ``esccs-archive``.
ARCHIVE_CLEAR_SHARE = 0.2


class HardStage(StudentStage):
    """The auxiliaries' most likely classes teach, not their probabilities."""

    def auxiliary_loss(
        self,
        batch: Batch,
        weights: Tensor,
        taught: tuple[Tensor, Tensor],
        features: tuple[Tensor, Tensor],
        logits: Tensor,
    ) -> Tensor:
        """Sum of both weighted cross-entropies."""
        losses = [
            weight * label_loss(logits, own.argmax(dim=1))
            for weight, own in zip(weights.unbind(dim=1), taught, strict=True)
        ]
        return torch.stack(losses).sum(dim=0).mean()


class FeatureStage(StudentStage):
    """The auxiliaries' features teach the branches, beside their answers."""

    def auxiliary_loss(
        self,
        batch: Batch,
        weights: Tensor,
        taught: tuple[Tensor, Tensor],
        features: tuple[Tensor, Tensor],
        logits: Tensor,
    ) -> Tensor:
        """The loss of ESCCS plus the weighted mean squared distance of the features."""
        total = super().auxiliary_loss(batch, weights, taught, features, logits)
        for place, modality in enumerate(("optical", "sar")):
            auxiliary = self.frozen(modality)
            assert isinstance(auxiliary, UnimodalNet)
            with torch.no_grad():
                known = auxiliary.encoder(batch[modality])
            apart = ((features[place] - known) ** 2).mean(dim=1)
            total = total + (weights[:, place] * apart).mean()
        return total


class CrosswiseStage(StudentStage):
    """Auxiliaries teach that did not learn the place, so what they only remember teaches nobody."""

    @torch.no_grad()
    def asked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the answers of those that learned on the other half of the places."""
        found: tuple[Tensor, Tensor] = self.frozen("crosswise")(batch)
        return found


class SoftSourceStage(StudentStage):
    """The source model's kept answers are no labels in the second sub-task."""

    def answer_loss(self, answer: TeacherAnswer, logits: Tensor) -> Tensor:
        """Nothing."""
        return logits.new_zeros(())


def changed(
    name: str, adds: str, form: type[StudentStage] = StudentStage, **student: Any
) -> Method:
    """Return ESCCS with other options of the student, or another form of its stage."""

    def net(shared: Shared) -> nn.Module:
        options = shared.run.options
        part = replace(options.student, **student)
        return shared.train_student(options.evolve(student=part), name, form)

    return gated(net, adds, "auxiliaries")


def _no_irm(shared: Shared) -> nn.Module:
    return shared.train_student(shared.options_with_beta(0.0), "esccs-no-irm")


def _own_start(shared: Shared) -> nn.Module:
    options = shared.run.options.evolve(warm_start=False)
    return shared.train_student(options, "esccs-own-start")


def _no_step_one(shared: Shared) -> nn.Module:
    """The source model alone teaches, for all epochs; the gate has nothing to follow."""
    options = shared.run.options
    part = replace(
        options.student, teacher_weight=1.0, auxiliary_weight=0.0, gate_weight=0.0,
        schedule=shared.schedule(),
    )  # fmt: skip
    options = options.evolve(student=part, warm_start=False)
    return shared.train_student(options, "esccs-no-step-one")


def _no_step_two(shared: Shared) -> Predictor:
    """Mean of the auxiliaries' answers, of those whose modality is there."""
    assert shared.auxiliaries is not None
    nets = {"optical": shared.auxiliaries.optical, "sar": shared.auxiliaries.sar}

    def predict(batch: Batch) -> Tensor:
        answers = torch.stack([nets[name](batch[name]).softmax(dim=1) for name in nets], dim=1)
        present = (batch["availability"] > 0).to(answers.dtype)[:, :, None]
        total: Tensor = (answers * present).sum(dim=1) / present.sum(dim=1).clamp_min(1)
        return torch.where(present.any(dim=1), total, answers.new_tensor(1 / answers.shape[2]))

    return predict


def with_blend(name: str, adds: str, *, blend: bool) -> Method:
    """Return ESCCS whose optical auxiliary learns from SAR too, or from the teacher alone."""

    def net(shared: Shared) -> nn.Module:
        assert shared.auxiliaries is not None
        options, sar = shared.run.options, shared.auxiliaries.sar
        part = replace(options.auxiliary, blend=blend)
        run = shared.run.with_options(options.evolve(auxiliary=part), shared.run.folder / name)
        optical = run.train_optical_auxiliary(shared.supervision, sar)
        return run.train_student(shared.supervision, sar, optical)

    return gated(net, adds, "auxiliaries")


def _crosswise(shared: Shared) -> nn.Module:
    assert shared.crosswise is not None
    return shared.train_student(None, "esccs-crosswise", CrosswiseStage, crosswise=shared.crosswise)


def _archive(shared: Shared) -> nn.Module:
    options = shared.run.options
    options = options.evolve(
        distillation=replace(options.distillation, teacher_views="all"),
        clouds=replace(options.clouds, clear_share=ARCHIVE_CLEAR_SHARE),
    )
    run = shared.run.with_options(options, shared.run.folder / "archive")
    supervision = run.supervise(shared.teacher)
    sar = run.train_sar_auxiliary(supervision)
    optical = run.train_optical_auxiliary(supervision, sar)
    return run.train_student(supervision, sar, optical)


NO_IRM = gated(_no_irm, "ESCCS, all weights 1", "auxiliaries")
NO_GATE = changed("esccs-no-gate", "ESCCS, gate not supervised", gate_weight=0.0)
THREE_LOSSES = changed(
    "esccs-three-losses", "ESCCS, the source model teaches step two, softly", SoftSourceStage,
    teacher_weight=1.0,
)  # fmt: skip
ANSWERS = changed(
    "esccs-answers", "ESCCS, the source model teaches step two, its kept answers as labels too",
    teacher_weight=1.0,
)  # fmt: skip
HARD = changed("esccs-hard", "ESCCS, the auxiliaries' classes teach", HardStage)
FEATURES = changed("esccs-features", "ESCCS, the auxiliaries' features teach too", FeatureStage)
OWN_START = gated(_own_start, "ESCCS, the student starts at random weights", "auxiliaries")
NO_STEP_ONE = gated(_no_step_one, "ESCCS without auxiliaries", "auxiliaries")
NO_STEP_TWO = Method(
    _no_step_two, "the mean of both auxiliaries", needs=("auxiliaries",),
    gifts=replace(EQUIPPED, stages=2),
)  # fmt: skip
APART = with_blend("esccs-apart", "ESCCS, the optical auxiliary without SAR", blend=False)
BLEND = with_blend("esccs-blend", "ESCCS, SAR teaches the optical auxiliary too", blend=True)
CROSSWISE = gated(
    _crosswise, "ESCCS, auxiliaries teach on places that they did not learn",
    "auxiliaries", "crosswise", gifts=replace(EQUIPPED, stages=5),
)  # fmt: skip
ARCHIVE = gated(
    _archive, "ESCCS with an archive: clear dates of the target, all dates joined",
    gifts=replace(EQUIPPED, target_clear=True, joined_views=True),
)  # fmt: skip
