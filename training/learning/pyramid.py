"""Encoders of four stages and the decoder behind them: the halves of every network for maps.

An encoder is what a factory ``(channels, options) -> nn.Module`` makes: ``features``, the channels
of its four stages, and ``stages``, four modules that take ``(N, C, H, W)`` to strides 4, 8, 16 and
32 one after the other. It is named ``"package.module:factory"``, so another package can bring its
own without a change here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from esccs_edge.errors import InputError

from ..segmentation_options import PyramidOptions
from .factories import imported
from .networks import ResidualBlock

STAGES = 4


class Pyramid(Protocol):
    """An encoder; an ``nn.Module``."""

    features: tuple[int, ...]
    stages: nn.ModuleList


class ConvolutionalPyramid(nn.Module):
    """Residual blocks; no attention and no norm but that of a batch, so INT8 has little to lose.

    Args:
        channels: Of the image.
        options: Widths and blocks.
    """

    def __init__(self, channels: int, options: PyramidOptions) -> None:
        super().__init__()
        self.features = tuple(options.widths)
        first = options.widths[0]
        stem: list[nn.Module] = [
            nn.Conv2d(channels, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU(),
        ]  # fmt: skip
        inputs = (first, *options.widths)
        stages = []
        for number, (width, count) in enumerate(zip(options.widths, options.blocks, strict=True)):
            blocks = [ResidualBlock(inputs[number], width, 2)]
            blocks += [ResidualBlock(width, width, 1) for _ in range(count - 1)]
            stages.append(nn.Sequential(*(stem if number == 0 else []), *blocks))
        self.stages = nn.ModuleList(stages)


def convolutional(channels: int, options: PyramidOptions) -> nn.Module:
    """Return the default encoder."""
    return ConvolutionalPyramid(channels, options)


def encoder(channels: int, options: PyramidOptions) -> Pyramid:
    """Make an encoder by the name of its factory.

    Raises:
        InputError: There is no such factory, or what it makes is no encoder.
    """
    made = imported(options.encoder, "network.encoder")(channels, options)
    if len(getattr(made, "stages", ())) != STAGES or len(getattr(made, "features", ())) != STAGES:
        raise InputError(f"{options.encoder} makes no encoder with {STAGES} stages and features")
    return cast(Pyramid, made)


class Decoder(nn.Module):
    """From stride 32 to every pixel with skips at 16, 8 and 4 (U-Net; Ronneberger et al., 2015).

    Each of five steps doubles the size by nearest neighbors and convolves twice.

    Args:
        features: Channels of the four stages.
        widths: Channels after each step.
    """

    def __init__(self, features: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        skips = (*reversed(features[:-1]), 0, 0)
        inputs = (features[-1], *widths)
        self.steps = nn.ModuleList(
            _two_convolutions(inputs[k] + skips[k], width) for k, width in enumerate(widths)
        )

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Maps at strides 4, 8, 16, 32 -> ``(N, widths[-1], H, W)``."""
        *skips, x = stages
        for step in self.steps:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            if skips:
                x = torch.cat((x, skips.pop()), dim=1)
            x = step(x)
        return x


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for source in (inputs, outputs):
        parts += [
            nn.Conv2d(source, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]  # fmt: skip
    return nn.Sequential(*parts)
