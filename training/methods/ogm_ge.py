"""OGM-GE: slow down the encoder of the leading modality (Peng et al., CVPR 2022).

Our choice: alpha 0.3, all epochs, labels are the teacher's confident answers. Scaling the
gradient at the features scales that of the whole encoder behind them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..judging.judge import Predictor
from ..stages.stage import Batch
from .fusion import FusionNet, FusionStage, fusion_net, fusion_predictor, scaled_gradient
from .method import Method, Taught
from .shared import Shared

ALPHA = 0.3


class OgmGeStage(FusionStage[FusionNet]):
    """Gradient scale from the batch's discrepancy ratio, plus noise of the gradient's spread."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation with the encoders' gradients scaled."""
        taught = self.taught(batch)
        optical, sar = self.net.features(batch)
        with torch.no_grad():
            first, second = self.net.halves(optical, sar)
        slow = coefficients(kept_score(first, taught), kept_score(second, taught), ALPHA)
        fused = self.net.heads(scaled_gradient(optical, slow[0]), scaled_gradient(sar, slow[1]))
        return self.imitation(fused.logits, taught)

    def on_after_backward(self) -> None:
        """GE: add noise to the convolutions' gradients of both encoders."""
        for encoder in (self.net.optical, self.net.sar):
            for parameter in encoder.parameters():
                gradient = parameter.grad
                if gradient is not None and gradient.ndim == 4:
                    gradient += torch.randn_like(gradient) * gradient.std()


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
