"""Two encoders, joined features, one head for both and one head each: what fusion methods share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..judging.judge import Predictor
from ..learning.networks import Encoder
from ..stages.chain import Chain
from ..stages.stage import Batch
from .method import MethodStep, confidence_filter, trained


@dataclass(frozen=True)
class Fused:
    """Features ``(N, F)`` and logits ``(N, K)`` of a batch."""

    optical_features: Tensor
    sar_features: Tensor
    logits: Tensor
    optical: Tensor
    sar: Tensor


class FusionNet(nn.Module):
    """The student's encoders without its gate; an absent modality gives zero features."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        part, classes = chain.options.student, len(chain.source.classes)
        self.optical = Encoder(len(chain.optical_spec.channels), part.optical)
        self.sar = Encoder(len(chain.sar_spec.channels), part.sar)
        sizes = part.optical.features, part.sar.features
        self.dropout = nn.Dropout(part.dropout)
        self.head = nn.Linear(sum(sizes), classes)
        self.optical_head, self.sar_head = (nn.Linear(size, classes) for size in sizes)
        if chain.options.warm_start:
            self.optical.load_state_dict(chain.teacher.encoder.state_dict())
            self.optical_head.load_state_dict(chain.teacher.head.state_dict())

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encode both modalities."""
        present = (batch["availability"] > 0).float()
        return (
            self.optical(batch["optical"]) * present[:, :1],
            self.sar(batch["sar"]) * present[:, 1:],
        )

    def heads(self, optical: Tensor, sar: Tensor) -> Fused:
        """Answer from features."""
        optical, sar = self.dropout(optical), self.dropout(sar)
        joint = self.head(torch.cat((optical, sar), dim=1))
        return Fused(optical, sar, joint, self.optical_head(optical), self.sar_head(sar))

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


class FusionStep(MethodStep):
    """A fusion network taught by the source model's confident answers on cloudy images."""

    net: FusionNet

    def __init__(self, name: str, chain: Chain, net: nn.Module | None = None) -> None:
        teacher = chain.teacher
        chain.seed_weights(name)
        super().__init__(name, net or FusionNet(chain), chain, teacher=teacher)
        self.filter = confidence_filter(chain)


def scaled_gradient(value: Tensor, factor: Tensor | float) -> Tensor:
    """Return the value unchanged; its gradient is multiplied by the factor."""
    return value.detach() + factor * (value - value.detach())


def fusion_predictor(step: FusionStep, chain: Chain) -> Predictor:
    """Train a fusion step and answer with its joint head."""
    net = trained(step, chain)
    return lambda batch: torch.softmax(net(batch).logits, dim=1)
