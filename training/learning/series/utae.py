"""U-TAE (Garnot and Landrieu, ICCV 2021): a U-Net per date, whose dates one attention weighs.

At the coarsest scale one learned query per head weighs the dates of each pixel; the same weights,
enlarged, sum the skips of the finer scales over time. Three things differ from the published
network and change no parameter: convolutions pad zeros instead of mirroring, which engines fuse;
missing dates are known by their pixels and pushed out of the softmax, without any branch; and time
is the place of a date in the series, or its day where the calendar is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .reconstruction import date_encoding

ENCODER = (64, 64, 64, 128)
DECODER = (32, 32, 64, 128)
#: Channels inside the attention, its heads, the length of a key, channels of its perceptron.
INSIDE, HEADS, KEY, OUT = 256, 16, 4, 128
GROUPS = 4
#: Takes a missing date out of the softmax, and leaves float16 room.
FAR = 1e3


def layer(inputs: int, outputs: int, norm: str, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution with padding 1, a group or batch norm, and ReLU."""
    normed = nn.GroupNorm(GROUPS, outputs) if norm == "group" else nn.BatchNorm2d(outputs)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, 1), normed, nn.ReLU())


class Down(nn.Module):
    """Half the resolution, then two convolutions, the second beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = layer(inputs, inputs, "group", 4, 2)
        self.first = layer(inputs, outputs, "group")
        self.second = layer(outputs, outputs, "group")

    def forward(self, x: Tensor) -> Tensor:
        """``(N * T, inputs, H, W)`` -> ``(N * T, outputs, H / 2, W / 2)``."""
        x = self.first(self.down(x))
        found: Tensor = x + self.second(x)
        return found


class Up(nn.Module):
    """Twice the resolution, joined with a skip, then two convolutions."""

    def __init__(self, inputs: int, outputs: int, skip: int) -> None:
        super().__init__()
        self.skip = nn.Sequential(nn.Conv2d(skip, skip, 1), nn.BatchNorm2d(skip), nn.ReLU())
        self.up = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.first = layer(outputs + skip, outputs, "batch")
        self.second = layer(outputs, outputs, "batch")

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` and ``(N, skip, 2 H, 2 W)`` -> ``(N, outputs, 2 H, 2 W)``."""
        x = self.first(torch.cat((self.up(x), self.skip(skip)), dim=1))
        found: Tensor = x + self.second(x)
        return found


class DateWeights(nn.Module):
    """L-TAE: weights of the dates, and what they make of the features.

    Args:
        channels: Of the features.
        dates: T.
        places: ``(T,)`` in days or steps; None: 0, 1, 2...
    """

    places: Tensor

    def __init__(self, channels: int, dates: int, places: Sequence[int] | None) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(HEADS, channels)
        self.enter = nn.Linear(channels, INSIDE)
        self.key = nn.Linear(INSIDE, HEADS * KEY)
        self.query = nn.Parameter(torch.randn(HEADS, KEY) * (2 / KEY) ** 0.5)
        self.perceptron = nn.Sequential(nn.Linear(INSIDE, OUT), nn.BatchNorm1d(OUT), nn.ReLU())
        self.dropout = nn.Dropout(0.2)
        self.leave = nn.GroupNorm(HEADS, OUT)
        steps = range(dates) if places is None else places
        encoding = date_encoding(max(steps) + 1, INSIDE // HEADS)[list(steps)].repeat(1, HEADS)
        self.register_buffer("places", encoding, persistent=False)

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, T, C, h, w)`` and ``seen (N, T)``, 1 or 0.

        Returns:
            ``(N, OUT, h, w)`` and weights ``(N, T, HEADS, h, w)``, over T summing to 1.
        """
        dates, channels, height, width = x.shape[1:]
        pixels = height * width
        rows = x.permute(0, 3, 4, 1, 2).reshape(-1, dates, channels)
        rows = self.norm(rows.transpose(1, 2)).transpose(1, 2)
        tokens = self.enter(rows) + self.places
        keys = self.key(tokens).reshape(-1, dates, HEADS, KEY)
        scores = (keys * self.query).sum(dim=3) * KEY**-0.5
        hidden = (FAR * (1 - seen))[:, None, :, None].expand(-1, pixels, -1, HEADS)
        weights = torch.softmax(scores - hidden.reshape(-1, dates, HEADS), dim=1)
        values = tokens.reshape(-1, dates, HEADS, INSIDE // HEADS)
        mixed = (weights[..., None] * values).sum(dim=1).reshape(-1, INSIDE)
        found = self.leave(self.dropout(self.perceptron(mixed)))
        back = found.reshape(-1, height, width, OUT).permute(0, 3, 1, 2)
        return back, weights.reshape(-1, height, width, dates, HEADS).permute(0, 3, 4, 1, 2)


class Utae(nn.Module):
    """One sensor, T dates -> logits of every pixel; H and W are multiples of 8.

    Args:
        channels: Of the sensor; PASTIS has 10.
        dates: T.
        classes: K; PASTIS has 20 with void.
        places: As in `DateWeights`.
    """

    def __init__(
        self, channels: int, dates: int, classes: int, places: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.dates = dates
        self.enter = nn.Sequential(
            layer(channels, ENCODER[0], "group"), layer(ENCODER[0], ENCODER[0], "group")
        )
        self.down = nn.ModuleList(Down(ENCODER[i], ENCODER[i + 1]) for i in range(3))
        self.attention = DateWeights(ENCODER[-1], dates, places)
        self.up = nn.ModuleList(Up(DECODER[i], DECODER[i - 1], ENCODER[i - 1]) for i in (3, 2, 1))
        self.leave = nn.Sequential(
            layer(DECODER[0], DECODER[0], "batch"), layer(DECODER[0], classes, "batch")[:2]
        )

    def forward(self, pixels: Tensor, availability: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, T * H, W)`` and ``(N, 1)`` -> logits ``(N, K, H, W)`` and seen ``(N, 1, T)``."""
        channels, rows, width = pixels.shape[1:]
        height = rows // self.dates
        present = torch.ceil(availability)  # 1, or 0 where the sensor is absent
        valid = (pixels.abs().amax(dim=1) > 0).to(pixels.dtype)
        seen = valid.reshape(-1, self.dates, height * width).mean(dim=2) * present
        images = (pixels * present[:, :, None, None]).reshape(
            -1, channels, self.dates, height, width
        )
        x = self.enter(images.transpose(1, 2).reshape(-1, channels, height, width))
        levels = [x]
        for down in self.down:
            levels.append(down(levels[-1]))
        series = [one.reshape(-1, self.dates, *one.shape[1:]) for one in levels]
        x, weights = self.attention(series[-1], torch.ceil(seen))
        for up, skip in zip(self.up, reversed(series[:-1]), strict=True):
            x = up(x, over_dates(skip, weights))
        return self.leave(x).float(), seen[:, None]


def over_dates(skip: Tensor, weights: Tensor) -> Tensor:
    """Sum ``(N, T, C, H, W)`` over time by the weights of each group of channels.

    Args:
        skip: Features of a finer scale.
        weights: ``(N, T, HEADS, h, w)``, enlarged bilinearly.
    """
    dates, channels, height, width = skip.shape[1:]
    folded = weights.reshape(-1, dates * HEADS, *weights.shape[3:])
    scale = float(height // weights.shape[3])
    larger = functional.interpolate(
        folded, scale_factor=scale, mode="bilinear", align_corners=False
    )
    by_head = larger.reshape(-1, dates, HEADS, 1, height, width)
    grouped = skip.reshape(-1, dates, HEADS, channels // HEADS, height, width)
    return (by_head * grouped).sum(dim=1).reshape(-1, channels, height, width)
