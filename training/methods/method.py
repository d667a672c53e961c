"""What a compared method is to the comparison, and how each of them trains a network.

Every method learns on the same target pairs, with the same schedule, augmentation, averaging and
backbone; a method file says only what its network and its loss are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..judging.judge import Predictor, bimodal
from ..learning.augment import augmented
from ..learning.losses import distillation_loss, label_loss, soften
from ..learning.networks import UnimodalNet
from ..learning.pseudo_labels import PseudoLabelFilter
from ..learning.reliability import source_reliability
from ..options import Schedule
from ..samples.samples import CloudySamples
from ..stages.chain import Chain
from ..stages.fit import fit
from ..stages.stage import Batch, Step, masked_mean
from ..stages.teacher_answers import SourceAnswer
from .cloud_estimate import CloudAwareChain


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        predictor: Trains what is missing and returns how to ask it.
        adds: What it adds to the source model, for the table.
        student: Trains what is missing and returns the network, if it has a gate.
        auxiliaries: Asks the auxiliaries of ESCCS, which are then trained before its own time runs.
        deployable: False for an upper bound, which sees what the target does not offer.
    """

    predictor: Callable[[Chain], Predictor]
    adds: str
    student: Callable[[Chain], nn.Module] | None = None
    auxiliaries: bool = False
    deployable: bool = True


def gated(student: Callable[[Chain], nn.Module], adds: str, *, auxiliaries: bool = True) -> Method:
    """Return the row of a network with two inputs and a gate."""
    return Method(lambda chain: bimodal(student(chain)), adds, student, auxiliaries)


@dataclass(frozen=True)
class Taught:
    """What the source model says about a cloudy batch.

    Attributes:
        logits: ``(N, K)``.
        answer: ``(N,)`` most likely class.
        kept: ``(N,)`` bool; passes the filter of the step.
        reliability: ``(N,)`` belief in the answers; 1 where a method has no cloud estimate.
    """

    logits: Tensor
    answer: Tensor
    kept: Tensor
    reliability: Tensor


class MethodStep(Step):
    """A step whose network, loss and samples a method chooses.

    Args:
        name: Names checkpoints and random numbers.
        net: The network.
        chain: The run.
        frozen: Trained networks that the loss asks.
        schedule: None for the one that all methods share.
    """

    def __init__(
        self, name: str, net: nn.Module, chain: Chain, schedule: Schedule | None = None,
        **frozen: nn.Module,
    ) -> None:  # fmt: skip
        super().__init__(net, schedule or chain.options.student.schedule, name, chain.options.seed)
        self.options = chain.options
        self.filter: PseudoLabelFilter | None = None
        self.knows_clouds = isinstance(chain, CloudAwareChain)
        if self.knows_clouds:
            self.filter = chain.pseudo_labels[0]
            frozen["source"] = chain.source_view
        self.keep_frozen(**frozen)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the augmented batch."""
        views = {name: value for name, value in batch.items() if value.ndim == 4}
        batch = {**batch, **augmented(views, self.options.augment)}
        return self.method_loss(batch), {}

    def method_loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch; the one thing that a method must say."""
        raise NotImplementedError

    @torch.no_grad()
    def taught(self, batch: Batch) -> Taught:
        """Ask the source model about the cloudy images of a batch."""
        if self.knows_clouds:
            answer: SourceAnswer = self.frozen("source")(batch)
            return self.judged(answer.logits, answer.reliability)
        return self.judged(self.frozen("teacher")(batch["optical"]), self.reliability(batch))

    def reliability(self, batch: Batch) -> Tensor:
        """Belief in what an optical image of the batch shows, ``(N,)``; 1 without the estimate."""
        if not self.knows_clouds:
            return torch.ones_like(batch["reliability"])
        span = self.options.distillation.reliable_clear_share
        return source_reliability(batch["reliability"], *span) * (batch["availability"][:, 0] > 0)

    def judged(self, logits: Tensor, reliability: Tensor) -> Taught:
        """Say which answers pass the filter; all do where the step has none."""
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


def trained(step: MethodStep, chain: Chain, samples: CloudySamples | None = None) -> nn.Module:
    """Train a step on the cloudy target, or on the given samples; load it if it is finished."""
    return fit(step, chain.cloudy_samples() if samples is None else samples, chain.folder)


def confidence_filter(chain: Chain) -> PseudoLabelFilter:
    """Fit the filter of KDHN: by the source model's logits alone, blind to clouds.

    With the cloud estimate the filter is that of ESCCS.
    """
    if isinstance(chain, CloudAwareChain):
        return chain.pseudo_labels[0]
    probabilities, _, _ = chain.source_answers
    believed = torch.ones_like(probabilities[:, 0])
    return PseudoLabelFilter.fit(probabilities, believed, chain.options.auxiliary.filter)


def unimodal_net(chain: Chain, name: str, modality: str, channels: int | None = None) -> nn.Module:
    """Return a fresh one-branch network; its start depends on the seed and the name only."""
    part = chain.options.student
    spec = chain.optical_spec if modality == "optical" else chain.sar_spec
    branch = part.optical if modality == "optical" else part.sar
    chain.seed_weights(name)
    count = len(spec.channels) if channels is None else channels
    net = UnimodalNet(count, len(chain.source.classes), branch, part.dropout)
    if chain.options.warm_start and modality == "optical" and channels is None:
        net.load_state_dict(chain.teacher.state_dict())
    return net
