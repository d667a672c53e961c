"""GDL: probabilistic features and uni-modal regularization (GDNet, TGRS 2024, doi 3478393).

``L = CE(z) + beta U + 1e-4 (R_o + R_s)``. Our choice: mean and variance come from linear maps of
the pooled features, beta is 1, and labels are the teacher's confident answers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..judging.judge import Predictor
from ..stages.stage import Batch
from .fusion import Fused, FusionNet, FusionStage, fusion_predictor
from .method import Method, Taught
from .shared import Shared

BETA = 1.0
NORMAL_WEIGHT = 1e-4


class GdlNet(FusionNet):
    """Draws features around their mean while it learns; takes the mean afterwards."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        sizes = self.optical_head.in_features, self.sar_head.in_features
        self.means = nn.ModuleList(nn.Linear(size, size) for size in sizes)
        self.log_variances = nn.ModuleList(nn.Linear(size, size) for size in sizes)

    def distributions(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Mean and log variance of each modality's features."""
        maps = zip(self.features(batch), self.means, self.log_variances, strict=True)
        return [(mean(h), log_variance(h)) for h, mean, log_variance in maps]

    def answer(self, parts: list[tuple[Tensor, Tensor]]) -> Fused:
        """Answer from drawn features, or from their means in eval mode."""
        optical, sar = (
            mean + torch.randn_like(mean) * torch.exp(0.5 * log) if self.training else mean
            for mean, log in parts
        )
        return self.heads(optical, sar)

    def forward(self, batch: Batch) -> Fused:
        """Encode and answer."""
        return self.answer(self.distributions(batch))


class GdlStage(FusionStage[GdlNet]):
    """Fused, uni-modal and normality terms."""

    def method_loss(self, batch: Batch) -> Tensor:
        """See the module docstring."""
        parts = self.net.distributions(batch)
        fused = self.net.answer(parts)
        normality = torch.stack([normal_divergence(*part) for part in parts]).sum()
        return self._label_terms(fused, self.taught(batch)) + NORMAL_WEIGHT * normality

    def _label_terms(self, fused: Fused, taught: Taught) -> Tensor:
        total = self.hard_loss(fused.logits, taught)
        for own in (fused.optical, fused.sar):
            tied = self.hard_loss(own, taught) + functional.mse_loss(own, fused.logits)
            total = total + BETA * tied
        return total


def normal_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """``KL(N(mean, variance) || N(0, 1))``, summed over features, averaged over samples."""
    terms = 0.5 * (torch.exp(log_variance) + mean**2 - log_variance - 1)
    return terms.sum(dim=1).mean()


def _predictor(shared: Shared) -> Predictor:
    shared.run.seed_weights("gdl")
    return fusion_predictor(GdlStage("gdl", GdlNet(shared), shared), shared)


METHOD = Method(_predictor, "a SAR branch, probabilistic features, two uni-modal heads")
