"""Losses of label maps by overlap, and how they compare with cross-entropy; each a batch mean.

All are computed in float32: their small constants vanish in half precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

#: Keeps an empty class from dividing by 0 (the paper has 1e-22, which float16 cannot hold).
EPSILON = 1e-6


def iou_loss(logits: Tensor, target: Tensor) -> Tensor:
    """``sum_j (1 - mean_n sum(p y) / sum(p + y - p y))``, in 0..K (Mohammadi et al., 2021).

    A class that a sample does not show counts 1 for it, and hardly teaches.

    Args:
        logits: ``(N, K, H, W)``.
        target: ``(N, H, W)`` class numbers; negative ones do not count.
    """
    shares, truth = _known(logits, target)
    both = (shares * truth).sum(dim=(2, 3))
    either = (shares + truth - shares * truth).sum(dim=(2, 3))
    return (1 - (both / (either + EPSILON)).mean(dim=0)).sum()


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """``sum_j (1 - mean_n 2 sum(p y) / sum(p + y))``, in 0..K; see `iou_loss`."""
    shares, truth = _known(logits, target)
    both = (shares * truth).sum(dim=(2, 3))
    total = (shares + truth).sum(dim=(2, 3))
    return (1 - (2 * both / (total + EPSILON)).mean(dim=0)).sum()


def pixel_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over the pixels that count; 0 where none does; see `iou_loss`."""
    known = target >= 0
    losses = functional.cross_entropy(logits.float(), target.clamp_min(0), reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "iou": iou_loss,
    "dice": dice_loss,
    "cross-entropy": pixel_loss,
}


def _known(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities and truth ``(N, K, H, W)`` in float32, 0 at pixels of no class."""
    known = (target >= 0)[:, None].float()
    with torch.autocast(logits.device.type, enabled=False):
        shares = torch.softmax(logits.float(), dim=1) * known
    truth = functional.one_hot(target.clamp_min(0), logits.shape[1]).movedim(-1, 1)
    return shares, truth.float() * known
