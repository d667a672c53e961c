"""Where optical, SAR and cross stream meet (CloudSeg: Xu et al., ISPRS J. 214, 2024).

Each stream is seen at three scales; optical passes a spatial gate that looks at where it differs
from SAR; the channels of all are weighed and summed to the new cross stream, which then corrects
both others where they differ from it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: By how much the two hidden units of the channel weights are fewer.
REDUCTION = 16


class MultiScale(nn.Module):
    """A map beside its maxima over 2 and 4 pixels, mixed back to its own channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> the same."""
        coarse = [
            functional.interpolate(_maxima(x, size), size=x.shape[2:], mode="nearest")
            for size in (2, 4)
        ]
        return torch.relu(self.mix(torch.cat((x, *coarse), dim=1)))


def _maxima(x: Tensor, size: int) -> Tensor:
    """Maximum over blocks; a map smaller than a block is one block."""
    return functional.max_pool2d(x, (min(size, x.shape[2]), min(size, x.shape[3])))


class SpatialGate(nn.Module):
    """One weight per pixel from the channels' maximum and mean (CBAM: Woo et al., 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, 1, H, W)`` in (0, 1)."""
        seen = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
        return torch.sigmoid(self.norm(self.conv(seen)))


class ChannelWeights(nn.Module):
    """One weight per channel from the means over the map (SE: Hu et al., 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(1, width // REDUCTION)
        self.down = nn.Conv2d(width, hidden, 1, bias=False)
        self.up = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> the same, weighed."""
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.up(torch.relu(self.down(means))))


class Correction(nn.Module):
    """Adds to a stream what the cross stream has beyond it, as far as a weight per value says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, stream: Tensor, beyond: Tensor) -> Tensor:
        """Two ``(N, C, H, W)`` -> the same."""
        return stream + beyond * torch.sigmoid(self.weigh(beyond))


class FuseBlock(nn.Module):
    """One meeting of the streams.

    Args:
        width: Channels of each.
        has_cross: Whether there is a cross stream before this block.
        gates_optical: Gate the optical stream; the teacher does not.
        corrects: Hand corrected streams on; nothing may be left to read them.
    """

    def __init__(
        self, width: int, *, has_cross: bool, gates_optical: bool = True, corrects: bool = True
    ) -> None:
        super().__init__()
        streams = 3 if has_cross else 2
        self.scales = nn.ModuleList(MultiScale(width) for _ in range(streams))
        self.gate = SpatialGate() if gates_optical else None
        self.channels = ChannelWeights(streams * width)
        self.corrections = nn.ModuleList(Correction(width) for _ in range(2 if corrects else 0))

    def forward(
        self, streams: tuple[Tensor, ...], shares: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Fuse.

        Args:
            streams: Optical, SAR and, but for the first stage, cross, each ``(N, C, H, W)``.
            shares: Weights of optical and SAR in the sum, ``(N, 1, H, W)`` or ``(N, 1, 1, 1)``
                each; both 1 in the paper.

        Returns:
            The new cross stream, and corrected optical and SAR (none without corrections).
        """
        optical, sar, *cross = (scale(x) for scale, x in zip(self.scales, streams, strict=True))
        used = optical if self.gate is None else optical * self.gate(optical - sar)
        met = (used * shares[0], sar * shares[1], *cross)
        weighed = self.channels(torch.cat(met, dim=1))
        fused = torch.stack(weighed.chunk(len(streams), dim=1)).sum(dim=0)
        corrected = tuple(
            correct(stream, fused - own)
            for correct, stream, own in zip(self.corrections, streams, (optical, sar), strict=False)
        )
        return fused, corrected
