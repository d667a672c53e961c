"""Random changes of a batch of normalized tensors, on top of the turns the samples bring.

All draws come from torch's global generator, which each stage seeds per epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..scene_options import AugmentOptions


def augmented(images: dict[str, Tensor], options: AugmentOptions) -> dict[str, Tensor]:
    """Shift every pair of a batch on its own and change the optical gain.

    Args:
        images: Images of the same places, ``(N, C, H, W)`` each; ``"clear"`` and ``"optical"``
            get the same gain and offset, ``"sar"`` keeps its levels.
        options: How much.
    """
    shifted_images = shifted(images, options.shift_px)
    if options.gain_std:
        first = shifted_images.get("clear", shifted_images.get("optical"))
        if first is not None:
            gain, offset = _gains(first, options.gain_std)
            for name in shifted_images.keys() & {"clear", "optical"}:
                shifted_images[name] = shifted_images[name] * gain + offset
    return shifted_images


def shifted(images: dict[str, Tensor], shift_px: int) -> dict[str, Tensor]:
    """Shift each place by rows and columns of its own, its images alike, mirroring the border."""
    if shift_px == 0:
        return dict(images)
    first = next(iter(images.values()))
    count, _, height, width = first.shape
    shift_px = min(shift_px, height - 1, width - 1)
    offsets = torch.randint(0, 2 * shift_px + 1, (2, count, 1))[:, :, 0].T.tolist()

    def shift(image: Tensor) -> Tensor:
        padded = functional.pad(image, (shift_px,) * 4, mode="reflect")
        return torch.stack(
            [
                one[:, row : row + height, column : column + width]
                for one, (row, column) in zip(padded, offsets, strict=True)
            ]
        )

    return {name: shift(image) for name, image in images.items()}


def mixed(images: Tensor, targets: Tensor, alpha: float = 0.4) -> tuple[Tensor, Tensor]:
    """Mix each image and its target with another of the batch (Zhang et al., mixup, ICLR 2018).

    Args:
        images: ``(N, C, H, W)``.
        targets: ``(N, K)`` probabilities.
        alpha: Both parameters of the Beta distribution of the share.
    """
    share = torch.distributions.Beta(alpha, alpha).sample()
    other = torch.randperm(len(images))
    blended = [share * x + (1 - share) * x[other.to(x.device)] for x in (images, targets)]
    return blended[0], blended[1]


def _gains(images: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """A factor and an offset per sample, with half as much per channel on top."""
    count, channels = images.shape[:2]

    def draw() -> Tensor:
        common, own = torch.randn(count, 1, 1, 1), torch.randn(count, channels, 1, 1)
        return (std * (common + 0.5 * own)).to(images.device)

    return 1 + draw(), draw()
