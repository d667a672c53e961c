"""Two encoders, joined features, one head for both and one head each: what fusion methods share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..judging.judge import Predictor
from ..learning.networks import encoded, encoder
from ..options import Schedule
from ..stages.stage import Batch
from .method import MethodStage, trained
from .shared import Shared


@dataclass(frozen=True)
class Fused:
    """Logits ``(N, K)`` of a batch: of both modalities, and of each alone."""

    logits: Tensor
    optical: Tensor
    sar: Tensor


class FusionNet(nn.Module):
    """The student's encoders without its gate; an absent modality gives zero features."""

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        run = shared.run
        part, classes = run.options.student, len(run.dataset.classes)
        optical_channels, sar_channels = run.channels
        self.optical = encoder(optical_channels, part.optical)
        self.sar = encoder(sar_channels, part.sar)
        sizes = self.optical.features, self.sar.features
        self.dropout = nn.Dropout(part.dropout)
        self.head = nn.Linear(sum(sizes), classes)
        self.optical_head, self.sar_head = (nn.Linear(size, classes) for size in sizes)
        if shared.warm_start:
            self.optical.load_state_dict(shared.supervision.first_teacher.encoder.state_dict())
            self.optical_head.load_state_dict(shared.supervision.first_teacher.head.state_dict())

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encode both modalities."""
        optical, sar = (batch["availability"] > 0).unbind(dim=1)
        return (
            encoded(self.optical, batch["optical"], optical) * optical[:, None],
            encoded(self.sar, batch["sar"], sar) * sar[:, None],
        )

    def heads(self, optical: Tensor, sar: Tensor) -> Fused:
        """Answer from features."""
        optical, sar = self.dropout(optical), self.dropout(sar)
        joint = self.head(torch.cat((optical, sar), dim=1))
        return Fused(joint, self.optical_head(optical), self.sar_head(sar))

    def forward(self, batch: Batch) -> Fused:
        """Encode and answer."""
        return self.heads(*self.features(batch))

    def halves(self, optical: Tensor, sar: Tensor) -> tuple[Tensor, Tensor]:
        """Split the joint logits by modality: ``W_m h_m + b / 2``; they sum to the whole."""
        size, half = optical.shape[1], self.head.bias / 2
        return (
            optical @ self.head.weight[:, :size].T + half,
            sar @ self.head.weight[:, size:].T + half,
        )


F = TypeVar("F", bound=FusionNet)


class FusionStage(MethodStage[F]):
    """A fusion network taught by the teacher's confident answers on cloudy images."""

    sees_both = True

    def __init__(
        self, name: str, net: F, shared: Shared, *, schedule: Schedule | None = None,
        **frozen: nn.Module,
    ) -> None:  # fmt: skip
        super().__init__(name, net, shared, schedule=schedule, filtered=shared.filter, **frozen)


def fusion_net(shared: Shared, name: str) -> FusionNet:
    """Return a fresh fusion network; its start depends on the seed and the name only."""
    shared.run.seed_weights(name)
    return FusionNet(shared)


def scaled_gradient(value: Tensor, factor: Tensor | float) -> Tensor:
    """Return the value unchanged; its gradient is multiplied by the factor."""
    return value.detach() + factor * (value - value.detach())


def fusion_predictor(stage: FusionStage[F], shared: Shared) -> Predictor:
    """Train a fusion stage and answer with its joint head."""
    net = trained(stage, shared)
    return lambda batch: torch.softmax(net(batch).logits, dim=1)
