"""Features of all dates -> features of the season: by convolutions, or by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .reconstruction import date_encoding


class TemporalConvolution(nn.Module):
    """Convolutions over the dates, then a layer that knows the place of each (Pelletier, 2019).

    Args:
        width: Channels per date.
        dates: T.
        features: Length of the result.
    """

    def __init__(self, width: int, dates: int, features: int, heads: int) -> None:
        super().__init__()
        del heads  # attention has them
        layers: list[nn.Module] = []
        inputs = width + 1
        for stride in (1, 2, 2):
            layers += [
                nn.Conv2d(inputs, width, (5, 1), (stride, 1), (2, 0), bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            inputs, dates = width, -(-dates // stride)
        self.layers = nn.Sequential(*layers)
        self.flat = width * dates
        self.last = nn.Linear(self.flat, features)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``(N, width, T, 1)`` and ``(N, 1, T, 1)``, 1 where seen -> ``(N, features)``."""
        found: Tensor = self.layers(torch.cat((x, seen), dim=1))
        return torch.relu(self.last(found.reshape(-1, self.flat)))


class TemporalAttention(nn.Module):
    """One learned query per head weighs the dates (L-TAE: Garnot and Landrieu, 2020).

    Args:
        width: Channels per date.
        dates: T.
        features: Length of the result.
        heads: Each sees its share of the channels.
    """

    def __init__(self, width: int, dates: int, features: int, heads: int) -> None:
        super().__init__()
        self.heads, self.key_size = heads, 8
        self.enter = nn.Linear(width + 1, features)
        self.dates = nn.Parameter(date_encoding(dates, features))
        self.norm = nn.LayerNorm(features)
        self.key = nn.Linear(features, heads * self.key_size)
        self.query = nn.Parameter(torch.randn(heads, self.key_size) * self.key_size**-0.5)
        self.last = nn.Sequential(nn.Linear(features, features), nn.ReLU())
        self.features = features

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``(N, width, T, 1)`` and ``(N, 1, T, 1)``, 1 where seen -> ``(N, features)``."""
        rows = torch.cat((x, seen), dim=1)[..., 0].transpose(1, 2)
        tokens = self.norm(torch.relu(self.enter(rows)) + self.dates[None])
        keys = self.key(tokens).reshape(-1, tokens.shape[1], self.heads, self.key_size)
        weights = torch.softmax((keys * self.query).sum(dim=3), dim=1)
        share = self.features // self.heads
        parts = tokens[..., : share * self.heads].reshape(-1, tokens.shape[1], self.heads, share)
        mixed = (weights[..., None] * parts).sum(dim=1).reshape(-1, share * self.heads)
        rest = tokens[..., share * self.heads :].mean(dim=1)
        found: Tensor = self.last(torch.cat((mixed, rest), dim=1))
        return found


TEMPORAL: dict[str, type[TemporalConvolution | TemporalAttention]] = {
    "convolution": TemporalConvolution,
    "attention": TemporalAttention,
}
