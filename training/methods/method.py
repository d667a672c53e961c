"""What a compared method is to the comparison, and how each of them trains a network.

Every method learns on the same target pairs, with the same schedule, augmentation, averaging and
backbone; a method file says only what its network and its loss are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..augment import augmented
from ..chain import Chain
from ..fit import fit
from ..judge import Predictor
from ..losses import distillation_loss, label_loss, soften
from ..networks import UnimodalNet
from ..options import Schedule
from ..pseudo_labels import PseudoLabelFilter
from ..samples import CloudySamples
from ..steps.step import Batch, Step, masked_mean


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        predictor: Trains what is missing and returns how to ask it.
        adds: What it adds to the source model, for the table.
        gate: How to ask for the modality weights ``(N, 2)``, if the network has any.
        deployable: False for an upper bound, which sees what the target does not offer.
    """

    predictor: Callable[[Chain], Predictor]
    adds: str
    gate: Callable[[Chain], Predictor] | None = None
    deployable: bool = True


@dataclass(frozen=True)
class Taught:
    """What the source model says about a cloudy batch.

    Attributes:
        logits: ``(N, K)``.
        answer: ``(N,)`` most likely class.
        kept: ``(N,)`` bool; passes the confidence filter.
    """

    logits: Tensor
    answer: Tensor
    kept: Tensor


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
    def taught(self, batch: Batch, net: str = "teacher", view: str = "optical") -> Taught:
        """Ask a frozen network about a view of the batch."""
        return self.judged(self.frozen(net)(batch[view]))

    def judged(self, logits: Tensor) -> Taught:
        """Say which answers pass the filter; all do where the step has none."""
        probabilities = soften(logits)
        kept = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        if self.filter is not None:
            kept = self.filter.keep(probabilities, torch.ones_like(probabilities[:, 0]))
        return Taught(logits, probabilities.argmax(dim=1), kept)

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
    """Fit the filter of KDHN: by the source model's logits alone, blind to clouds."""
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
    return UnimodalNet(count, len(chain.source.classes), branch, part.dropout)
