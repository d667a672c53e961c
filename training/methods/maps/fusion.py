"""U-Nets of one modality, and of two that meet early, in the middle or late."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...learning.pyramid import Decoder, encoder
from ...segmentation_options import PyramidOptions
from ...stages.stage import Batch
from .method import LabelStage, MapMethod, MapPredictor, MapShared


class UNet(nn.Module):
    """One encoder, or several whose stages are laid side by side, and one decoder.

    Args:
        inputs: What each encoder sees: names of images of a batch, laid side by side.
        channels: Image name -> channels.
        outputs: Channels of the answer.
        options: Encoders and decoder.
    """

    def __init__(
        self, inputs: Sequence[Sequence[str]], channels: dict[str, int], outputs: int,
        options: PyramidOptions,
    ) -> None:  # fmt: skip
        super().__init__()
        self.inputs = tuple(tuple(names) for names in inputs)
        made = [encoder(sum(channels[n] for n in names), options) for names in self.inputs]
        self.encoders = nn.ModuleList(part.stages for part in made)
        features = tuple(len(made) * width for width in made[0].features)
        self.decoder = Decoder(features, options.decoder)
        self.head = nn.Conv2d(options.decoder[-1], outputs, 3, padding=1)

    def forward(self, batch: Batch) -> Tensor:
        """Images ``(N, C, H, W)`` by name -> ``(N, outputs, H, W)``."""
        streams = [torch.cat([batch[n] for n in names], dim=1) for names in self.inputs]
        stages = []
        for number in range(len(self.encoders[0])):  # type: ignore[arg-type]
            streams = [
                part[number](x)  # type: ignore[index]
                for part, x in zip(self.encoders, streams, strict=True)
            ]
            stages.append(torch.cat(streams, dim=1))
        answer: Tensor = self.head(self.decoder(stages))
        return answer.float()


class MeanOf(nn.Module):
    """The mean of what several networks answer."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, batch: Batch) -> Tensor:
        """Images by name -> ``(N, K, H, W)``."""
        return torch.stack([part(batch) for part in self.parts]).mean(dim=0)


def unet(shared: MapShared, inputs: Sequence[Sequence[str]], outputs: int) -> UNet:
    """Return a fresh network for the images of a run."""
    channels = dict(zip(("optical", "sar"), shared.run.channels, strict=True))
    return UNet(inputs, channels, outputs, shared.run.options.network)


def _row(name: str, adds: str, inputs: Sequence[Sequence[str]], *, late: bool = False) -> MapMethod:
    def predictor(shared: MapShared) -> MapPredictor:
        shared.run.seed_weights(name)
        net: nn.Module
        if late:
            net = MeanOf([unet(shared, [part], shared.classes) for part in inputs])
        else:
            net = unet(shared, inputs, shared.classes)
        return shared.fit(LabelStage(name, net, shared))

    return MapMethod(predictor, adds)


OPTICAL_ONLY = _row("optical-only", "a U-Net on cloudy optical images", [["optical"]])
SAR_ONLY = _row("sar-only", "a U-Net on SAR", [["sar"]])
EARLY = _row("early-fusion", "a U-Net on both, side by side", [["optical", "sar"]])
MIDDLE = _row("middle-fusion", "two encoders, one decoder", [["optical"], ["sar"]])
LATE = _row("late-fusion", "two U-Nets, mean of both", [["optical"], ["sar"]], late=True)
