"""What a compared method is to the comparison, and how each of them trains a network.

Every method learns on the same target pairs, with the same schedule, augmentation, averaging and
backbone; a method file defines only its network and its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..judging.judge import Predictor
from ..judging.predictors import bimodal
from ..learning.augment import augmented
from ..learning.losses import distillation_loss, label_loss, soften
from ..learning.networks import UnimodalNet
from ..learning.pseudo_labels import PseudoLabelFilter
from ..learning.reliability import teacher_reliability
from ..options import Schedule
from ..samples.epoch_samples import EpochSamples
from ..stages.scene_classification.teacher_answers import TeacherAnswer
from ..stages.stage import Batch, N, Stage, masked_mean
from .shared import Shared


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        predictor: Trains what is missing and returns how to ask it.
        adds: What it adds to the teacher, for the table.
        student: Trains what is missing and returns the network, if it has a gate.
        auxiliaries: Asks the auxiliaries of ESCCS, which are then trained before its own time runs.
        deployable: False for an upper bound, which sees what the target does not offer.
        target_labels: Learns from the labels of the target, and cannot run where none exist.
    """

    predictor: Callable[[Shared], Predictor]
    adds: str
    student: Callable[[Shared], nn.Module] | None = None
    auxiliaries: bool = False
    deployable: bool = True
    target_labels: bool = False


def gated(student: Callable[[Shared], nn.Module], adds: str, *, auxiliaries: bool = True) -> Method:
    """Return the row of a network with two inputs and a gate."""
    return Method(lambda shared: bimodal(student(shared)), adds, student, auxiliaries)


@dataclass(frozen=True)
class Taught:
    """What the teacher answers on a cloudy batch.

    Attributes:
        logits: ``(N, K)``.
        answer: ``(N,)`` most likely class.
        kept: ``(N,)`` bool; passes the filter of the stage.
        reliability: ``(N,)`` belief in the answers; 1 where a method has no cloud estimate.
    """

    logits: Tensor
    answer: Tensor
    kept: Tensor
    reliability: Tensor


class MethodStage(Stage[N]):
    """A stage whose network, loss and samples a method chooses.

    Args:
        name: Names checkpoints and random numbers.
        net: The network.
        shared: What the methods share.
        schedule: None for the one that all methods share.
        filtered: Which answers of the teacher may teach; None: all.
        frozen: Trained networks that the loss asks.
    """

    def __init__(
        self, name: str, net: N, shared: Shared, *, schedule: Schedule | None = None,
        filtered: PseudoLabelFilter | None = None, **frozen: nn.Module,
    ) -> None:  # fmt: skip
        options = shared.run.options
        super().__init__(net, schedule or options.student.schedule, name, options.seed)
        self.options = options
        self.knows_clouds = shared.knows_clouds
        self.filter = shared.filter if self.knows_clouds and filtered is None else filtered
        answers = shared.supervision.answers if self.knows_clouds else shared.teacher
        self.keep_frozen(teacher=answers, **frozen)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the augmented batch."""
        images = {name: value for name, value in batch.items() if value.ndim == 4}
        batch = {**batch, **augmented(images, self.options.augment)}
        return self.method_loss(batch), {}

    def method_loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch; the one thing that a method must define."""
        raise NotImplementedError

    @torch.no_grad()
    def taught(self, batch: Batch) -> Taught:
        """Ask the teacher about the cloudy images of a batch."""
        if self.knows_clouds:
            answer: TeacherAnswer = self.frozen("teacher")(batch)
            return self.judged(answer.logits, answer.reliability)
        return self.judged(self.frozen("teacher")(batch["optical"]), self.reliability(batch))

    def reliability(self, batch: Batch) -> Tensor:
        """Belief in what an optical image of the batch shows, ``(N,)``; 1 without the estimate."""
        if not self.knows_clouds:
            return torch.ones_like(batch["reliability"])
        span = self.options.distillation.reliable_clear_share
        return teacher_reliability(batch["reliability"], *span) * (batch["availability"][:, 0] > 0)

    def judged(self, logits: Tensor, reliability: Tensor) -> Taught:
        """Return which answers pass the filter; all do where the stage has none."""
        probabilities = soften(logits)
        kept = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        if self.filter is not None:
            kept = self.filter.keep(probabilities, reliability)
        return Taught(logits, probabilities.argmax(dim=1), kept, reliability)

    def imitation(self, logits: Tensor, taught: Taught) -> Tensor:
        """Distillation of the kept answers, the teaching loss that all fusion methods share."""
        temperature = self.options.distillation.temperature
        target = soften(taught.logits, temperature)
        hard = label_loss(logits, taught.answer)
        return masked_mean(hard + distillation_loss(target, logits, temperature), taught.kept)

    def hard_loss(self, logits: Tensor, taught: Taught) -> Tensor:
        """Cross-entropy on the kept answers."""
        return masked_mean(label_loss(logits, taught.answer), taught.kept)


def trained(stage: MethodStage[N], shared: Shared, samples: EpochSamples | None = None) -> N:
    """Train a stage on the cloudy target, or on the given samples; load it if it is finished."""
    run = shared.run
    return run.fit(stage, run.cloudy_samples() if samples is None else samples)


def unimodal_net(
    shared: Shared, name: str, modality: str, channels: int | None = None
) -> UnimodalNet:
    """Return a fresh one-branch network; its start depends on the seed and the name only."""
    run, part = shared.run, shared.run.options.student
    branch = part.optical if modality == "optical" else part.sar
    count = len(run.modalities[modality].channels) if channels is None else channels
    run.seed_weights(name)
    net = UnimodalNet(count, len(run.dataset.classes), branch, part.dropout)
    if run.options.warm_start and modality == "optical" and channels is None:
        net.load_state_dict(shared.supervision.first_teacher.state_dict())
    return net
