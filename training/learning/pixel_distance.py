"""How far the pixels of a patch are from those of the training data: a part of the network.

Noise, flat areas, foreign spectra and shuffled bands change how bright a patch is and how much its
pixels differ from their neighbors; so this looks at means of pixels and of differences, not at the
features of the encoder, which see only what its classes need: on the patches that the encoder was
never to meet, half of the flat and half of the noisy ones lie among its training features.

One fixed convolution makes what the means are taken of. It reads the input that the encoder
reads, so it runs in INT8 where the encoder does, and its weights are exact there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Every fourth row and column of pixels is looked at.
STRIDE = 4
#: Added to a mean difference before its logarithm, in standard deviations of the channel. Below it
#: lies what INT8 rounds away; means over all channels are less coarse.
CHANNEL_FLOOR, TOTAL_FLOOR = 0.05, 5e-3
#: Mean difference at which a patch counts as half still. The calmest sea has fifteen times as much.
STILL = 1e-4
#: No statistic counts for more, so that squares stay within float16.
FARTHEST = 100.0


class PixelDistance(nn.Module):
    """Mahalanobis distance of a patch's statistics from their mean over the training data.

    Divided by the root of their number, so that training samples lie at about 1.

    Args:
        channels: C of the modality.

    Attributes:
        center: ``(F,)`` mean of the statistics.
        whitening: ``(F, F)``; the statistics times it have covariance 1, nearly.
    """

    filters: Tensor
    totals: Tensor
    floors: Tensor
    center: Tensor
    whitening: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        count = 3 * channels + 5
        floors = torch.full((2 * channels + 4,), CHANNEL_FLOOR)
        floors[2 * channels :] = TOTAL_FLOOR
        self.register_buffer("filters", _filters(channels), persistent=False)
        self.register_buffer("totals", _totals(channels), persistent=False)
        self.register_buffer("floors", floors, persistent=False)
        self.register_buffer("center", torch.zeros(count))
        self.register_buffer("whitening", torch.eye(count))

    @property
    def contrasts(self) -> Tensor:
        """``(F, F)``; statistics times it say of differences how they differ from each other.

        Far ones are seen beside near ones, and those of the mean channel beside the mean of all
        channels: in noise, pixels and channels have nothing to do with each other.
        """
        count = self.channels
        near, far = torch.arange(count, 2 * count), torch.arange(2 * count, 3 * count)
        gray_far, gray_near, total_far, total_near = torch.arange(3 * count, 3 * count + 4)
        contrasts = torch.eye(len(self.center))
        contrasts[near, far] = -1
        contrasts[total_far, gray_far] = contrasts[total_near, gray_near] = -1
        contrasts[total_near, total_far] = -1
        return contrasts

    def statistics(self, pixels: Tensor, share: Tensor) -> Tensor:
        """Return what is measured of each patch.

        Args:
            pixels: ``(N, C, H, W)`` normalized, invalid ones 0; H and W of 5 or more.
            share: ``(N, 1)`` of valid pixels.

        Returns:
            ``(N, 3 C + 5)``: per channel the mean, and logarithms of the mean difference of
            diagonal neighbors and of pixels four apart; the same differences of the mean channel,
            and their mean over all channels; how still the patch is, from 0 to 1.
        """
        found = functional.conv2d(pixels, self.filters, stride=STRIDE)
        means = found[:, : self.channels].mean(dim=(2, 3))
        differences = found[:, self.channels :].abs().mean(dim=(2, 3)) @ self.totals
        valid = share.clamp_min(1e-6)
        means, differences = means / valid, differences / valid
        still = STILL / (differences[:, -1:] + STILL)
        return torch.cat((means, torch.log(differences + self.floors), still), dim=1)

    def forward(self, pixels: Tensor, share: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, 1)`` -> distance ``(N, 1)``; 0 where nothing is valid."""
        away = (self.statistics(pixels, share) - self.center) @ self.whitening
        away = away.clamp(-FARTHEST, FARTHEST)
        distance: Tensor = (away * away).mean(dim=1, keepdim=True).sqrt()
        return distance * share.ceil()


def _filters(channels: int) -> Tensor:
    """``(3 C + 2, C, 2, 5)``: pixels, differences at two spans, and those of the mean channel."""
    pixel = torch.eye(channels)[:, :, None, None] * torch.eye(10)[0].reshape(2, 5)
    near, far = pixel.clone(), pixel.clone()
    near[:, :, 1, 1] = -torch.eye(channels)
    far[:, :, 0, 4] = -torch.eye(channels)
    of_mean = [filters.mean(dim=0, keepdim=True) for filters in (far, near)]
    return torch.cat((pixel, near, far, *of_mean))


def _totals(channels: int) -> Tensor:
    """``(2 C + 2, 2 C + 4)``: keeps all differences and appends the means of far and near ones."""
    means = torch.zeros(2 * channels + 2, 2)
    means[channels : 2 * channels, 0] = means[:channels, 1] = 1 / channels
    return torch.cat((torch.eye(2 * channels + 2), means), dim=1)
