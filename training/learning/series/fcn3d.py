"""The 3-D FCN for crop mapping (Mohammadi et al., IGARSS 2021, arXiv 2102.07280), as it is.

Image series -> class per pixel. Time is never shortened, and the last convolution spans all of it.
Two operations are written in the form in which engines run them, with the same values: the last
convolution over T dates is a 1 x 1 convolution over T times the channels, and upsampling in space
folds time into the channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Dates that one kernel spans.
TEMPORAL_KERNEL = 5
#: As in Keras, where the network comes from.
BN_EPS, BN_MOMENTUM = 1e-3, 0.01


class SpaceTimeConvolution(nn.Module):
    """A convolution of 5 dates and 3 x 3 pixels, batch norm and ReLU.

    With stride 2 it pads no zero before and one behind, as TensorFlow does on even sizes; padding
    on both sides would move the image by a pixel.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        space = 0 if stride == 2 else 1
        self.behind = 1 - space
        self.conv = nn.Conv3d(
            inputs, outputs, (TEMPORAL_KERNEL, 3, 3), (1, stride, stride),
            (TEMPORAL_KERNEL // 2, space, space),
        )  # fmt: skip
        self.norm = nn.BatchNorm3d(outputs, BN_EPS, BN_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, T, H, W)`` -> ``(N, outputs, T, H / stride, W / stride)``."""
        if self.behind:
            x = functional.pad(x, (0, 1, 0, 1))
        return torch.relu(self.norm(self.conv(x)))


class Fcn3d(nn.Module):
    """One sensor, T dates -> logits of every pixel; 4,873,347 parameters at the sizes of the paper.

    Args:
        channels: Of the sensor; the paper has 6.
        dates: T; the paper has 23.
        classes: K; the paper has 3.
        widths: Channels of conv1 to conv4, each at half the resolution of the one before.
        decoder: Channels of conv5 to conv8.
    """

    def __init__(
        self,
        channels: int,
        dates: int,
        classes: int,
        widths: Sequence[int] = (32, 64, 128, 256),
        decoder: Sequence[int] = (128, 64, 32, 16),
    ) -> None:
        super().__init__()
        self.dates = dates
        sizes = (channels, *widths)
        self.down = nn.ModuleList(
            SpaceTimeConvolution(sizes[i], sizes[i + 1], 2) for i in range(len(widths))
        )
        skips = (*reversed(widths[:-1]), 0)
        inputs = (widths[-1], *decoder[:-1])
        self.up = nn.ModuleList(
            SpaceTimeConvolution(before + skip, width, 1)
            for before, skip, width in zip(inputs, skips, decoder, strict=True)
        )
        self.head = nn.Conv3d(decoder[-1], classes, (dates, 1, 1))

    def forward(self, pixels: Tensor, availability: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, T * H, W)`` and ``(N, 1)`` -> logits ``(N, K, H, W)`` and seen ``(N, 1, T)``."""
        height, width = pixels.shape[2] // self.dates, pixels.shape[3]
        valid = (pixels.abs().amax(dim=1) > 0).to(pixels.dtype)
        seen = valid.reshape(-1, 1, self.dates, height * width).mean(dim=3)
        present = torch.ceil(availability)  # 1, or 0 where the sensor is absent
        x = pixels * present[:, :, None, None]
        x = x.reshape(-1, pixels.shape[1], self.dates, height, width)
        return self.logits(x), seen * present[:, :, None]

    def logits(self, x: Tensor) -> Tensor:
        """``(N, C, T, H, W)`` -> ``(N, K, H, W)``; H and W are multiples of 16."""
        skips = []
        for convolution in self.down:
            x = convolution(x)
            skips.append(x)
        skips.pop()
        for convolution in self.up:
            x = doubled(x)
            if skips:
                x = torch.cat((x, skips.pop()), dim=1)
            x = convolution(x)
        return over_all_dates(x, self.head.weight, self.head.bias).float()


def doubled(x: Tensor) -> Tensor:
    """Repeat each pixel of ``(N, C, T, H, W)`` twice in rows and columns, time as channels."""
    channels, dates, height, width = x.shape[1:]
    folded = x.reshape(-1, channels * dates, height, width)
    larger = functional.interpolate(folded, scale_factor=2.0, mode="nearest")
    return larger.reshape(-1, channels, dates, 2 * height, 2 * width)


def over_all_dates(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve ``(N, C, T, H, W)`` with ``(K, C, T, 1, 1)``, as a 1 x 1 convolution."""
    outputs, channels, dates = weight.shape[:3]
    height, width = x.shape[3:]
    folded = x.reshape(-1, channels * dates, height, width)
    return functional.conv2d(folded, weight.reshape(outputs, channels * dates, 1, 1), bias)
