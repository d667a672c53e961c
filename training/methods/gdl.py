"""GDL: probabilistic features and uni-modal regularization (GDNet, TGRS 2024, doi 3478393).

``L = CE(z) + beta U + 1e-4 (R_o + R_s)``. As in the public code, mean and log variance are
normalized over the batch and the logits of one modality come from the shared head with the other
one's features at zero. Our choice: both come from linear maps of the pooled features and not from
an early block, the log variance starts at -5, so that features are not drowned in noise, beta is
1, and labels are the teacher's confident answers.
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
FIRST_LOG_VARIANCE = -5.0


class GdlNet(FusionNet):
    """Draws features around their mean while it learns; takes the mean afterwards."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        sizes = self.optical_head.in_features, self.sar_head.in_features
        self.means = nn.ModuleList(_normalized_map(size) for size in sizes)
        self.log_variances = nn.ModuleList(
            _normalized_map(size, FIRST_LOG_VARIANCE) for size in sizes
        )

    def distributions(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Mean and log variance of each modality's features."""
        maps = zip(self.features(batch), self.means, self.log_variances, strict=True)
        return [(mean(h), log_variance(h)) for h, mean, log_variance in maps]

    def answer(self, parts: list[tuple[Tensor, Tensor]], present: Tensor) -> Fused:
        """Answer from drawn features, or from their means in eval mode; all by the shared head."""
        drawn = [
            mean + torch.randn_like(mean) * torch.exp(0.5 * log) if self.training else mean
            for mean, log in parts
        ]
        there = present.to(drawn[0].dtype)
        optical, sar = (
            self.dropout(h) * is_there[:, None]
            for h, is_there in zip(drawn, there.unbind(dim=1), strict=True)
        )
        pairs = (optical, sar), (optical, torch.zeros_like(sar)), (torch.zeros_like(optical), sar)
        return Fused(*(self.head(torch.cat(pair, dim=1)) for pair in pairs))

    def forward(self, batch: Batch) -> Fused:
        """Encode and answer."""
        return self.answer(self.distributions(batch), batch["availability"] > 0)


class GdlStage(FusionStage[GdlNet]):
    """Fused, uni-modal and normality terms."""

    def method_loss(self, batch: Batch) -> Tensor:
        """See the module docstring."""
        parts = self.net.distributions(batch)
        fused = self.net.answer(parts, batch["availability"] > 0)
        normality = torch.stack([normal_divergence(*part) for part in parts]).sum()
        return self._label_terms(fused, self.taught(batch)) + NORMAL_WEIGHT * normality

    def _label_terms(self, fused: Fused, taught: Taught) -> Tensor:
        total = self.hard_loss(fused.logits, taught)
        for own in (fused.optical, fused.sar):
            tied = self.hard_loss(own, taught) + functional.mse_loss(own, fused.logits)
            total = total + BETA * tied
        return total


def _normalized_map(size: int, start: float = 0.0) -> nn.Module:
    norm = nn.BatchNorm1d(size)
    nn.init.constant_(norm.bias, start)
    return nn.Sequential(nn.Linear(size, size), norm)


def normal_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """``KL(N(mean, variance) || N(0, 1))``, summed over features, averaged over samples."""
    terms = 0.5 * (torch.exp(log_variance) + mean**2 - log_variance - 1)
    return terms.sum(dim=1).mean()


def _predictor(shared: Shared) -> Predictor:
    shared.run.seed_weights("gdl")
    return fusion_predictor(GdlStage("gdl", GdlNet(shared), shared), shared)


METHOD = Method(_predictor, "a SAR branch, probabilistic features, uni-modal regularization")
