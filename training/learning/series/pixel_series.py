"""Teacher and student of pixel series: a date encoder, reconstruction, a temporal encoder, a gate.

Missing dates are 0 in every channel, which is how the network knows them; an absent sensor has the
gate weight 0, and nothing reconstructed for it reaches the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...series_options import PixelSeriesOptions
from .reconstruction import Reconstruction
from .temporal import TEMPORAL


@dataclass(frozen=True)
class SeriesAnswer:
    """What a network says of a batch, and what it went by.

    Attributes:
        logits: ``(N, K)``.
        gate: ``(N, M)`` shares of the sensors.
        seen: ``(N, M, T)``: share of valid pixels of each sensor on each date.
        features: Of each sensor ``(N, T, width)``, before reconstruction.
        filled: The same with reconstructed ones at missing dates; None without reconstruction.
        summary: ``(N, M * features)``: temporal features of all sensors, gated.
    """

    logits: Tensor
    gate: Tensor
    seen: Tensor
    features: list[Tensor]
    filled: list[Tensor] | None
    summary: Tensor


class DateEncoder(nn.Module):
    """Two 1 x 1 convolutions over the channels of each date; a missing date gives 0."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``(N, C, T, 1)`` and ``(N, 1, T, 1)`` -> ``(N, width, T, 1)``."""
        # The product changes nothing, but in INT8 the convolution then reads it, and what is seen
        # is told from the input itself, whose small values are not rounded away.
        encoded: Tensor = self.layers(x * seen) * seen
        return encoded


class SensorGate(nn.Module):
    """Shares of the sensors, from their features and availability; see `networks.ModalityGate`."""

    def __init__(self, features: int, sensors: int, hidden: int = 16) -> None:
        super().__init__()
        self.hidden = nn.Linear(sensors * features + sensors, hidden)
        self.score = nn.Linear(hidden, sensors)

    def forward(self, features: Sequence[Tensor], availability: Tensor) -> Tensor:
        """``M x (N, F)`` and ``(N, M)`` -> ``(N, M)``."""
        joint = torch.cat((*features, availability), dim=1)
        # Not times `availability > 0`: OpenVINO 2026.4 crashes on that in float32 beside INT8.
        trust = torch.softmax(self.score(torch.relu(self.hidden(joint))), dim=1) * availability
        return trust / trust.sum(dim=1, keepdim=True).clamp_min(1e-12)


class PixelSeriesNet(nn.Module):
    """Pixel series of one or two sensors -> class.

    Args:
        channels: Of each sensor.
        dates: T.
        classes: K.
        options: Sizes.
        reconstruct: Fill missing dates.
        couple: Predict from what is filled.
    """

    def __init__(
        self,
        channels: Sequence[int],
        dates: int,
        classes: int,
        options: PixelSeriesOptions,
        *,
        reconstruct: bool,
        couple: bool = True,
    ) -> None:
        super().__init__()
        width, sensors = options.width, len(channels)
        self.couple = couple
        self.encoders = nn.ModuleList(DateEncoder(count, width) for count in channels)
        self.reconstruction = (
            Reconstruction(width, dates, sensors, options.heads) if reconstruct else None
        )
        temporal = TEMPORAL[options.temporal]
        self.temporal = nn.ModuleList(
            temporal(width, dates, options.features, options.heads) for _ in channels
        )
        self.gate = SensorGate(options.features, sensors)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(sensors * options.features, classes)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sensors ``(N, C, T, 1)``, then availability ``(N, M)`` -> logits, gate and seen."""
        answer = self.answer(inputs[:-1], inputs[-1])
        return answer.logits, answer.gate, answer.seen

    def answer(self, sensors: Sequence[Tensor], availability: Tensor) -> SeriesAnswer:
        """Return logits and all that led to them."""
        seen = [
            observed(x) * (availability[:, i, None, None, None] > 0).to(x.dtype)
            for i, x in enumerate(sensors)
        ]
        maps = [
            encode(x, mask) for encode, x, mask in zip(self.encoders, sensors, seen, strict=True)
        ]
        features = [one[..., 0].transpose(1, 2) for one in maps]
        filled = None
        if self.reconstruction is not None:
            rows = [mask[:, 0] for mask in seen]
            made = self.reconstruction(features, rows)
            filled = [
                own * row + new * (1 - row)
                for own, new, row in zip(features, made, rows, strict=True)
            ]
        used = filled if filled is not None and self.couple else features
        found = [
            encode(one.transpose(1, 2)[..., None], mask)
            for encode, one, mask in zip(self.temporal, used, seen, strict=True)
        ]
        gate = self.gate(found, availability)
        gated = torch.stack(found, dim=1) * gate[:, :, None]
        summary = gated.reshape(-1, self.head.in_features)
        logits = self.head(self.dropout(summary)).float()
        days = torch.cat([mask[:, 0].transpose(1, 2) for mask in seen], dim=1)
        return SeriesAnswer(logits, gate, days, features, filled, summary)


def observed(x: Tensor) -> Tensor:
    """``(N, C, T, 1)`` -> ``(N, 1, T, 1)``: 1 where any channel is not 0."""
    return (x.abs().amax(dim=1, keepdim=True) > 0).to(x.dtype)
