"""OGM-GE: slow down the encoder of the leading modality (Peng et al., CVPR 2022).

As in the public code, the gradients of the convolutions are scaled after the backward pass and get
noise with the spread that they had before. Our choice: alpha 0.3, all epochs, labels are the
teacher's confident answers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..judging.judge import Predictor
from ..stages.stage import Batch
from .fusion import FusionNet, FusionStage, fusion_net, fusion_predictor
from .method import Method, Taught
from .shared import Shared

ALPHA = 0.3


class OgmGeStage(FusionStage[FusionNet]):
    """Gradient scale from the batch's discrepancy ratio, plus noise of the gradient's spread."""

    #: Factors of the last batch, optical first.
    slow: tuple[Tensor, Tensor]

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation with the encoders' gradients scaled."""
        taught = self.taught(batch)
        optical, sar = self.net.features(batch)
        with torch.no_grad():
            first, second = self.net.halves(optical, sar)
        self.slow = coefficients(kept_score(first, taught), kept_score(second, taught), ALPHA)
        return self.imitation(self.net.heads(optical, sar).logits, taught)

    def on_after_backward(self) -> None:
        """Scale the convolutions' gradients of both encoders and add noise (GE)."""
        for encoder, factor in zip((self.net.optical, self.net.sar), self.slow, strict=True):
            for parameter in encoder.parameters():
                if parameter.grad is not None and parameter.grad.ndim == 4:
                    modulate(parameter.grad, factor)


def modulate(gradient: Tensor, factor: Tensor) -> None:
    """``g <- factor g + N(0, std(g))`` in place, the spread that of the gradient as it came."""
    noise = torch.randn_like(gradient) * gradient.std()
    gradient.mul_(factor).add_(noise)


def kept_score(logits: Tensor, taught: Taught) -> Tensor:
    """Sum over the kept samples of the probability of the answer."""
    right = torch.softmax(logits, dim=1).gather(1, taught.answer[:, None])[:, 0]
    return (right * taught.kept).sum()


def coefficients(optical: Tensor, sar: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Gradient factors from both scores: ``1 - tanh(alpha rho)`` for the leading one, else 1."""

    def factor(own: Tensor, other: Tensor) -> Tensor:
        ratio = own / other.clamp_min(1e-12)
        return torch.where(ratio > 1, 1 - torch.tanh(alpha * ratio), torch.ones_like(ratio))

    return factor(optical, sar), factor(sar, optical)


def _predictor(shared: Shared) -> Predictor:
    stage = OgmGeStage("ogm-ge", fusion_net(shared, "ogm-ge"), shared)
    return fusion_predictor(stage, shared)


METHOD = Method(_predictor, "tlf-middle with modulated gradients of the encoders")
