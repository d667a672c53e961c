"""What a user's package might bring: encoders of other shapes, and teachers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PlainConvolutions(nn.Module):
    """A convolutional encoder that is not of this package."""

    def __init__(self, channels: int, features: int = 12) -> None:
        super().__init__()
        self.features = features
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU6(), nn.Conv2d(8, features, 1), nn.ReLU6(),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        return torch.flatten(self.pool(self.body(x)), 1)


def convolutions(channels: int, options) -> nn.Module:
    """Return the convolutional encoder."""
    return PlainConvolutions(channels)


class Tokens(nn.Module):
    """A backbone with token features ``(N, T, D)``, as Earth-observation models give them."""

    def __init__(self, channels: int, size: int = 16, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.embed = nn.Conv2d(channels, width, size, size)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, T, D)``."""
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.attend(self.before(tokens)).chunk(3, dim=2)
        )
        share = (q @ k.transpose(2, 3) / math.sqrt(self.width / self.heads)).softmax(dim=3)
        tokens = tokens + (share @ v).transpose(1, 2).flatten(2)
        mixed: Tensor = tokens + self.mix(self.after(tokens))
        return mixed


class PretrainedTokens(nn.Module):
    """The recipe of docs/training.md: frozen tokens, then a small head that learns."""

    def __init__(self, backbone: nn.Module, width: int, features: int = 16) -> None:
        super().__init__()
        self.features = features
        self.backbone = backbone.requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(width, features), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the tokens, then the head."""
        pooled: Tensor = self.head(self.backbone(x).mean(dim=1))
        return pooled


def pretrained(channels: int, options) -> nn.Module:
    """Return the token encoder; its "pretrained" weights are drawn from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        backbone = Tokens(channels, size=4)
    return PretrainedTokens(backbone, backbone.width)


def forgets_to_pool(channels: int, options) -> nn.Module:
    """Return an encoder whose features are tokens."""
    backbone = Tokens(channels, size=4)
    backbone.features = backbone.width  # type: ignore[assignment]
    return backbone


def needs_large_images(channels: int, options) -> nn.Module:
    """Return an encoder that cannot take small patches."""
    backbone = Tokens(channels, size=64)
    return PretrainedTokens(backbone, backbone.width)


def no_encoder(channels: int, options) -> nn.Module:
    """Return a module that does not say how long its features are."""
    return nn.Identity()


class LooksAtValues(PlainConvolutions):
    """An encoder that no graph can follow."""

    def forward(self, x: Tensor) -> Tensor:
        """Encode bright patches otherwise than dark ones."""
        return super().forward(-x if float(x.mean()) > 0 else x)


def looks_at_values(channels: int, options) -> nn.Module:
    """Return that encoder."""
    return LooksAtValues(channels)


class LevelTeacher:
    """Knows the tiny classes by the spectrum that `tiny_data.tiny_pair` draws them from."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.asked: list[Tensor] = []

    def __call__(self, pixels: Tensor, spec) -> Tensor:
        """Compare the mean spectrum, in reflectance, with that of each class."""
        self.asked.append(pixels)
        assert spec.unit == "reflectance" and pixels.shape[1] == len(spec.channels)
        bands = torch.arange(len(spec.channels))
        known = torch.stack([
            0.12 + 0.08 * torch.cos(bands * (label + 1) / 2) for label in range(len(self.classes))
        ])  # fmt: skip
        apart = (pixels.mean(dim=(2, 3))[:, None] - known).square().mean(dim=2)
        return -2000 * apart


def level_teacher(classes: tuple[str, ...]) -> LevelTeacher:
    """Return the teacher, as ``--teacher`` asks for it."""
    return LevelTeacher(classes)
