"""Features of missing dates, made from those of the dates and sensors that were seen.

Joint-FRP (arXiv 2505.19159) reconstructs features, not pixels, towards those of a teacher that sees
all dates. The form is ours: attention over the dates, both sensors of a date in one token, so that
SAR carries on where the optical dates are missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Layers of attention over the dates.
LAYERS = 2


def date_encoding(dates: int, width: int, period: float = 1000.0) -> Tensor:
    """Return sines and cosines of the place of each date, ``(T, width)`` (Vaswani et al., 2017)."""
    places = torch.arange(dates, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(period) / width))
    encoding = torch.zeros(dates, width)
    encoding[:, 0::2] = torch.sin(places * rates)
    encoding[:, 1::2] = torch.cos(places * rates)[:, : width // 2]
    return encoding


class DateAttention(nn.Module):
    """Self-attention over dates and a perceptron, both behind a norm and added to their input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, T, width)`` -> the same."""
        dates, width = x.shape[1:]
        parts = self.project(self.norm(x)).reshape(-1, dates, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scale = (width // self.heads) ** -0.5  # on the query: what fused attention looks for
        weights = torch.softmax(torch.matmul(query * scale, key.transpose(2, 3)), dim=-1)
        mixed = torch.matmul(weights, value).transpose(1, 2).reshape(-1, dates, width)
        x = x + self.merge(mixed)
        filled: Tensor = x + self.perceptron(x)
        return filled


class Reconstruction(nn.Module):
    """Fills the missing dates of each sensor.

    Args:
        width: Channels per date and sensor.
        dates: T.
        sensors: M.
        heads: Of attention.
    """

    def __init__(self, width: int, dates: int, sensors: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.missing = nn.Parameter(0.02 * torch.randn(sensors, width))
        self.dates = nn.Parameter(date_encoding(dates, width))
        self.joined = nn.ModuleList(nn.Linear(width, width) for _ in range(sensors))
        self.layers = nn.Sequential(*(DateAttention(width, heads) for _ in range(LAYERS)))
        self.heads = nn.ModuleList(nn.Linear(width, width) for _ in range(sensors))

    def forward(self, features: Sequence[Tensor], seen: Sequence[Tensor]) -> list[Tensor]:
        """Reconstruct all dates.

        Args:
            features: Of each sensor ``(N, T, width)``.
            seen: Of each sensor ``(N, T, 1)``, 1 or 0.

        Returns:
            Of each sensor ``(N, T, width)``, not negative, as the features are.
        """
        mixed = self.dates[None]
        for number, join in enumerate(self.joined):
            token = self.missing[number] * (1 - seen[number])
            mixed = mixed + join(features[number] * seen[number] + token)
        mixed = self.layers(mixed)
        return [torch.relu(head(mixed)) for head in self.heads]


def reconstruction_loss(found: Tensor, taught: Tensor, missing: Tensor) -> Tensor:
    """Mean squared distance of normalized features over the dates that only the teacher saw.

    Args:
        found: ``(N, T, width)`` reconstructed.
        taught: Those of the teacher.
        missing: ``(N, T)``: seen by the teacher, not by the student.
    """
    width = found.shape[-1:]
    distance = functional.layer_norm(found, width) - functional.layer_norm(taught.detach(), width)
    weights = missing[..., None].to(found.dtype)
    return (weights * distance**2).sum() / (weights.sum() * width[0]).clamp_min(1)


def summary_loss(found: Tensor, taught: Tensor) -> Tensor:
    """Mean of ``1 - cos`` between temporal features ``(N, F)`` and the teacher's."""
    return (1 - functional.cosine_similarity(found, taught.detach(), dim=1)).mean()
