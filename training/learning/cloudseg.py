"""Networks of CloudSeg (Xu et al., ISPRS J. 214, 2024), with a gate that says what was trusted.

An optical, a SAR and a cross encoder meet after each of four stages. Land cover is read from the
cross stream; in training a second decoder restores the clear image from the optical one.

A modality may end inside the image, as SAR does at the edge of its swath. Preprocessing writes 0 to
all channels of a pixel without data, and a pixel with data is that by accident alone; so a network
sees for itself where a modality is, and what is absent reaches neither fusion nor gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..segmentation_options import PyramidOptions
from .fuse_block import FuseBlock
from .pyramid import STAGES, Decoder, encoder

GateUse = Literal["weighing", "reported"]

#: The largest float32 below 1.
BELOW_ONE = 1 - 2**-24


@dataclass(frozen=True)
class Seen:
    """What a network shows while it learns.

    Attributes:
        logits: ``(N, K, H, W)``.
        features: ``(N, F, H, W)`` of the cross decoder.
        gate: ``(N, 2, H, W)``, or None without a gate.
        clear: ``(N, C, H, W)`` restored optical image, in [0, 1]; None without that decoder.
    """

    logits: Tensor
    features: Tensor
    gate: Tensor | None = None
    clear: Tensor | None = None


class PixelGate(nn.Module):
    """Shares (optical, SAR) of every fourth pixel, as the gate of a patch is for a whole one.

    Where it weighs, optical is fused as far as its share says, and SAR as a whole.

    A softmax over two scores is multiplied by what is there and renormalized, so the shares sum
    to 1 where anything is there, and a modality that is absent gets exactly 0.
    """

    def __init__(self, width: int, hidden: int = 16) -> None:
        super().__init__()
        self.near = _convolution(2 * width, hidden)
        self.around = _convolution(hidden, hidden)
        self.score = nn.Conv2d(2 * hidden, 2, 1)

    def forward(self, optical: Tensor, sar: Tensor, there: Tensor) -> Tensor:
        """First stages ``(N, C, h, w)`` and presence ``(N, 2, h, w)`` -> ``(N, 2, h, w)``."""
        near = self.near(torch.cat((optical, sar), dim=1))
        around = self.around(functional.avg_pool2d(near, 4))
        around = functional.interpolate(around, scale_factor=4.0, mode="nearest")
        scores = self.score(torch.cat((near, around), dim=1))
        return shares_of(torch.softmax(scores, dim=1), there)


def presence(optical: Tensor, sar: Tensor, availability: Tensor) -> Tensor:
    """Where each modality is: not where all its channels are 0, as preprocessing writes nodata.

    Args:
        optical: ``(N, C, H, W)``, normalized.
        sar: ``(N, P, H, W)``, normalized.
        availability: ``(N, 2)``, share of pixels with data. 0: the modality is absent, whatever
            its pixels are. 1: it is there, whatever they are, since INT8 rounds to 0 in all
            channels what is near the mean in all of them.

    Returns:
        ``(N, 2, H, W)`` of 0 and 1.
    """
    largest = torch.cat([image.abs().amax(dim=1, keepdim=True) for image in (optical, sar)], dim=1)
    share = availability[:, :, None, None]
    whole, present = ((share > least).to(optical.dtype) for least in (BELOW_ONE, 0.0))
    return (largest + whole > 0).to(optical.dtype) * present


def shares_of(trust: Tensor, there: Tensor) -> Tensor:
    """Share trust ``(N, 2, H, W)`` among what is there; 0 for both where nothing is."""
    present = trust * there
    return present / present.sum(dim=1, keepdim=True).clamp_min(1e-12)


class Streams(nn.Module):
    """The three encoders and the blocks where they meet; the family of teacher and student.

    Args:
        optical_channels: Of the optical image.
        sar_channels: Of the SAR image.
        options: The encoders.
        gates_optical: See `FuseBlock`.
        keeps_optical: Whether something reads the last corrected optical stream.
    """

    def __init__(
        self, optical_channels: int, sar_channels: int, options: PyramidOptions, *,
        gates_optical: bool, keeps_optical: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        optical, sar = (encoder(count, options) for count in (optical_channels, sar_channels))
        self.optical, self.sar = optical.stages, sar.stages
        self.cross = encoder(1, options).stages[1:]  # it sees no image, so it has no first stage
        self.features = optical.features
        self.blocks = nn.ModuleList(
            FuseBlock(
                width,
                has_cross=number > 0,
                gates_optical=gates_optical,
                corrects=keeps_optical or number < STAGES - 1,
            )
            for number, width in enumerate(self.features)
        )

    def forward(
        self, optical: Tensor, sar: Tensor, there: Tensor, gate: PixelGate | None,
        use: GateUse = "reported",
    ) -> tuple[list[Tensor], list[Tensor], Tensor | None]:  # fmt: skip
        """Encode.

        Args:
            optical: ``(N, C, H, W)``.
            sar: ``(N, P, H, W)``.
            there: ``(N, 2, H, W)``, `presence` of both. A coarser pixel is there where one of its
                pixels is.
            gate: Weighs or reports, or is not there.
            use: Which of both.

        Returns:
            The four stages of the cross stream, those of the optical one, and the gate
            ``(N, 2, H/4, W/4)``.
        """
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        cross: tuple[Tensor, ...] = ()
        shares = reported = None
        for number, block in enumerate(self.blocks):
            there = functional.max_pool2d(there, 2 if number else 4)
            optical = self.optical[number](optical) * there[:, :1]
            sar = self.sar[number](sar) * there[:, 1:]
            if number == 0 and gate is not None:
                weighs = use == "weighing"
                seen = (optical, sar) if weighs else (optical.detach(), sar.detach())
                reported = gate(*seen, there)
                shares = reported[:, :1] if weighs else None
            elif shares is not None:
                shares = functional.avg_pool2d(shares, 2)
            if number:
                cross = (self.cross[number - 1](*cross),)
            share = there[:, :1] if shares is None else shares
            fused, corrected = block((optical, sar, *cross), (share, there[:, 1:]))
            optical, sar = corrected or (optical, sar)
            cross = (fused,)
            found[0].append(fused)
            found[1].append(optical)
        return *found, reported


class CloudSegTeacher(nn.Module):
    """Sees the clear optical image and SAR.

    Args:
        optical_channels: Of the optical image.
        sar_channels: Of the SAR image.
        classes: K.
        options: Encoders and decoder.
    """

    def __init__(
        self, optical_channels: int, sar_channels: int, classes: int, options: PyramidOptions
    ) -> None:
        super().__init__()
        self.streams = Streams(
            optical_channels, sar_channels, options, gates_optical=False, keeps_optical=False
        )
        self.decoder = Decoder(self.streams.features, options.decoder)
        self.head = nn.Conv2d(options.decoder[-1], classes, 3, padding=1)

    def forward(self, optical: Tensor, sar: Tensor, availability: Tensor) -> Seen:
        """``(N, C, H, W), (N, P, H, W), (N, 2)`` -> logits and features."""
        cross, _, _ = self.streams(optical, sar, presence(optical, sar, availability), None)
        features = self.decoder(cross)
        return Seen(self.head(features).float(), features)


class CloudSegNet(nn.Module):
    """The student; the deliverable is `deployed`, without what only training reads.

    Args:
        optical_channels: Of the optical image.
        sar_channels: Of the SAR image.
        classes: K.
        options: Encoders and decoders.
        gate: What the gate is for; see `MapStudentOptions`.
        removes_clouds: Whether the decoder that restores the clear image is there.
    """

    def __init__(
        self, optical_channels: int, sar_channels: int, classes: int, options: PyramidOptions,
        gate: GateUse = "weighing", *, removes_clouds: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self._made_of = (optical_channels, sar_channels, classes, options, gate)
        self.gate_use: GateUse = gate
        self.streams = Streams(
            optical_channels, sar_channels, options, gates_optical=True,
            keeps_optical=removes_clouds,
        )  # fmt: skip
        self.gate = PixelGate(self.streams.features[0])
        self.decoder = Decoder(self.streams.features, options.decoder)
        self.head = nn.Conv2d(options.decoder[-1], classes, 3, padding=1)
        self.removal: nn.ModuleList | None = None
        if removes_clouds:
            last = options.decoder[-1]
            wide = nn.Conv2d(last, 64, 3, padding=1)
            narrow = nn.Conv2d(64, optical_channels, 3, padding=1)
            decoder = Decoder(self.streams.features, options.decoder)
            self.removal = nn.ModuleList([decoder, wide, narrow])

    def forward(self, optical: Tensor, sar: Tensor, availability: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, H, W), (N, P, H, W), (N, 2)`` -> logits ``(N, K, H, W)``, gate ``(N, 2, H, W)``.

        The shares of a pixel sum to 1, and that of a modality without data there is 0.
        """
        seen = self.seen(optical, sar, availability)
        assert seen.gate is not None
        return seen.logits, seen.gate

    def seen(self, optical: Tensor, sar: Tensor, availability: Tensor) -> Seen:
        """Return the answers with features and, where it is restored, the clear image."""
        there = presence(optical, sar, availability)
        cross, own, gate = self.streams(optical, sar, there, self.gate, self.gate_use)
        features = self.decoder(cross)
        clear = None
        if self.removal is not None:
            decoder, wide, narrow = self.removal
            clear = narrow(wide(decoder(own)))
        fine = functional.interpolate(gate, scale_factor=4.0, mode="bilinear")
        return Seen(self.head(features).float(), features, shares_of(fine, there), clear)

    def deployed(self) -> CloudSegNet:
        """Return the network without what only training reads, in eval mode."""
        net = CloudSegNet(*self._made_of)
        known = net.state_dict()
        net.load_state_dict({name: self.state_dict()[name] for name in known})
        return net.eval()


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
