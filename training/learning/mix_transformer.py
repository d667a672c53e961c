"""The encoder of the paper: a mix transformer of four stages (SegFormer: Xie et al., 2021).

Random weights; whoever has trained ones loads them in a factory of their own. Attention keeps it
from being small or INT8-friendly, so it is not the default; see `pyramid`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..segmentation_options import PyramidOptions

#: By how much keys and values are coarser than queries, per stage.
REDUCTIONS = (8, 4, 2, 1)
#: Channels per head; the paper's widths 64, 128, 320 and 512 then have 1, 2, 5 and 8 heads.
HEAD_WIDTH = 64
EXPANSION = 4
DROP_PATH = 0.1
NORM_EPS = 1e-6


def _as_image(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """``(N, H * W, C)`` -> ``(N, C, H, W)``."""
    return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], *size)


class Attention(nn.Module):
    """Self-attention whose keys and values are read from a coarser map.

    Args:
        width: Channels.
        reduction: Pixels of the map per pixel of the coarser one, in rows and columns.
    """

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.reduce: nn.Conv2d | None = None
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``(N, H * W, C)`` -> the same."""
        seen = x
        if self.reduce is not None:
            image = self.reduce(_as_image(x, size))
            seen = self.norm(image.flatten(2).transpose(1, 2))
        query = self._by_head(self.query(x))
        key, value = (self._by_head(part) for part in self.key_value(seen).chunk(2, dim=2))
        met = functional.scaled_dot_product_attention(query, key, value)
        joined: Tensor = self.out(met.transpose(1, 2).flatten(2))
        return joined

    def _by_head(self, x: Tensor) -> Tensor:
        count, places, width = x.shape
        return x.reshape(count, places, self.heads, width // self.heads).transpose(1, 2)


class MixFeedForward(nn.Module):
    """Two layers with a convolution per channel between them, which is what says where one is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = EXPANSION * width
        self.first = nn.Linear(width, wide)
        self.mix = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.last = nn.Linear(wide, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``(N, H * W, C)`` -> the same."""
        image = self.mix(_as_image(self.first(x), size))
        mixed: Tensor = self.last(functional.gelu(image.flatten(2).transpose(1, 2)))
        return mixed


class Block(nn.Module):
    """Attention and feed-forward, each added to what came in."""

    def __init__(self, width: int, reduction: int, drop: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=NORM_EPS) for _ in range(2))
        self.parts = nn.ModuleList([Attention(width, reduction), MixFeedForward(width)])
        self.drop = drop

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``(N, H * W, C)`` -> the same."""
        for norm, part in zip(self.norms, self.parts, strict=True):
            x = x + self._kept(part(norm(x), size))
        return x

    def _kept(self, x: Tensor) -> Tensor:
        """Leave out the part for some samples while learning (Huang et al., 2016)."""
        if not self.training or self.drop == 0:
            return x
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.drop
        return x * kept / (1 - self.drop)


class TransformerStage(nn.Module):
    """Overlapping patches, blocks, a norm: ``(N, C, H, W)`` to half or a quarter of the size."""

    def __init__(
        self, inputs: int, width: int, stride: int, reduction: int, drops: list[float]
    ) -> None:
        super().__init__()
        kernel = 2 * stride - 1
        self.embed = nn.Conv2d(inputs, width, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.blocks = nn.ModuleList(Block(width, reduction, drop) for drop in drops)
        self.last_norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        image = self.embed(x)
        size = (image.shape[2], image.shape[3])
        tokens = self.norm(image.flatten(2).transpose(1, 2))
        for block in self.blocks:
            tokens = block(tokens, size)
        return _as_image(self.last_norm(tokens), size)


class MixTransformer(nn.Module):
    """The encoder; see `pyramid.encoder` for what it must have.

    Args:
        channels: Of the image.
        options: Widths and blocks.
    """

    def __init__(self, channels: int, options: PyramidOptions) -> None:
        super().__init__()
        self.features = tuple(options.widths)
        last = max(1, sum(options.blocks) - 1)
        drops = [DROP_PATH * number / last for number in range(last + 1)]
        inputs = (channels, *options.widths)
        stages = []
        for number, (width, count) in enumerate(zip(options.widths, options.blocks, strict=True)):
            own, drops = drops[:count], drops[count:]
            stride = 4 if number == 0 else 2
            stages.append(TransformerStage(inputs[number], width, stride, REDUCTIONS[number], own))
        self.stages = nn.ModuleList(stages)


def mix_transformer(channels: int, options: PyramidOptions) -> nn.Module:
    """Return the encoder; with widths 64, 128, 320, 512 and 3, 8, 27, 3 blocks it is MiT-B4."""
    return MixTransformer(channels, options)
