"""What a compared method is to the comparison, and how each of them trains a network.

Every method learns on the same target pairs, with the same augmentation, averaging, backbone and
number of epochs; a method file defines only its network and its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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
from .told import AS_PUBLISHED, EQUIPPED, Gifts


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        predictor: Trains what is missing and returns how to ask it.
        adds: What it adds to the teacher, for the table.
        student: Trains what is missing and returns the network, if it has a gate.
        needs: Networks that are trained before its own time runs; see `prepared.PREPARED`.
        gifts: What it is given beside the target's cloudy pairs.
        deployable: False for an upper bound, which sees what the target does not offer.
        reproduced: False where the source is not met, by what `adds` says; then it is in no mean.
    """

    predictor: Callable[[Shared], Predictor]
    adds: str
    student: Callable[[Shared], nn.Module] | None = None
    needs: tuple[str, ...] = ()
    gifts: Gifts = AS_PUBLISHED
    deployable: bool = True
    reproduced: bool = True


def gated(
    student: Callable[[Shared], nn.Module], adds: str, *needs: str, gifts: Gifts = EQUIPPED
) -> Method:
    """Return the row of a network with two inputs and a gate."""
    return Method(lambda shared: bimodal(student(shared)), adds, student, needs, gifts)


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

    def where(self, present: Tensor) -> Taught:
        """Return the same, kept only for the samples ``(N,)`` whose image is there."""
        return replace(self, kept=self.kept & present)


class MethodStage(Stage[N]):
    """A stage whose network, loss and samples a method chooses.

    Args:
        name: Names checkpoints and random numbers.
        net: The network.
        shared: What the methods share.
        schedule: None for all epochs that a method has.
        filtered: Which answers of the teacher may teach; None: all.
        frozen: Trained networks that the loss asks.
    """

    #: Whether the network sees both modalities, so that it may learn to do without one.
    sees_both = False

    def __init__(
        self, name: str, net: N, shared: Shared, *, schedule: Schedule | None = None,
        filtered: PseudoLabelFilter | None = None, **frozen: nn.Module,
    ) -> None:  # fmt: skip
        options = shared.run.options
        super().__init__(net, schedule or shared.schedule(), name, options.seed)
        self.options = options
        self.knows_clouds = shared.knows_clouds
        self.filter = shared.filter if self.knows_clouds and filtered is None else filtered
        answers = shared.supervision.answers if self.knows_clouds else shared.teacher
        self.drop_share = options.student.drop_share if shared.knows_clouds else 0.0
        self.keep_frozen(teacher=answers, **frozen)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the augmented batch."""
        images = {name: value for name, value in batch.items() if value.ndim == 4}
        batch = {**batch, **augmented(images, self.options.augment)}
        batch |= {"asked_optical": batch["optical"], "asked_availability": batch["availability"]}
        if self.sees_both and self.drop_share:
            batch = one_lost(batch, self.drop_share)
        return self.method_loss(batch), {}

    def method_loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch; the one thing that a method must define."""
        raise NotImplementedError

    @torch.no_grad()
    def taught(self, batch: Batch) -> Taught:
        """Ask the teacher about the cloudy images of a batch, also where the network lost them."""
        seen = {
            **batch,
            "optical": batch.get("asked_optical", batch["optical"]),
            "availability": batch.get("asked_availability", batch["availability"]),
        }
        if self.knows_clouds:
            answer: TeacherAnswer = self.frozen("teacher")(seen)
            return self.judged(answer.logits, answer.reliability)
        return self.judged(self.frozen("teacher")(seen["optical"]), self.reliability(seen))

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
        """Distillation of the kept answers, the teaching loss that all methods share."""
        temperature = self.options.distillation.temperature
        target = soften(taught.logits, temperature)
        hard = label_loss(logits, taught.answer)
        return masked_mean(hard + distillation_loss(target, logits, temperature), taught.kept)

    def hard_loss(self, logits: Tensor, taught: Taught) -> Tensor:
        """Cross-entropy on the kept answers."""
        return masked_mean(label_loss(logits, taught.answer), taught.kept)


def both_see(batch: Batch, modality: str) -> Tensor:
    """Pairs ``(N,)`` that the teacher sees, from optical, and a network of a modality too."""
    needed = batch["availability"][:, : 1 if modality == "optical" else 2]
    return (needed > 0).all(dim=1)


def one_lost(batch: Batch, share: float) -> Batch:
    """Take one modality from a share of the pairs that have both, as ESCCS does."""
    available = batch["availability"]
    lost = (torch.rand(len(available)) < share).to(available.device) & (available > 0).all(dim=1)
    optical = (torch.rand(len(available)) < 0.5).to(available.device)
    keep = torch.stack((~(lost & optical), ~(lost & ~optical)), dim=1).to(available.dtype)
    return {
        **batch,
        "optical": batch["optical"] * keep[:, 0, None, None, None],
        "sar": batch["sar"] * keep[:, 1, None, None, None],
        "availability": available * keep,
    }


def trained(stage: MethodStage[N], shared: Shared, samples: EpochSamples | None = None) -> N:
    """Train a stage on the cloudy target, or on the given samples; load it if it is finished."""
    run = shared.run
    return run.fit(stage, run.taught_samples() if samples is None else samples)


def unimodal_net(
    shared: Shared, name: str, modality: str, channels: int | None = None
) -> UnimodalNet:
    """Return a fresh one-branch network; its start depends on the seed and the name only."""
    run, part = shared.run, shared.run.options.student
    branch = part.optical if modality == "optical" else part.sar
    count = len(run.modalities[modality].channels) if channels is None else channels
    run.seed_weights(name)
    net = UnimodalNet(count, len(run.dataset.classes), branch, part.dropout)
    if shared.warm_start and modality == "optical" and channels is None:
        net.load_state_dict(shared.supervision.first_teacher.state_dict())
    return net
