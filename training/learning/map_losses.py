"""Losses of maps, each the mean over a batch (CloudSeg: Xu et al., ISPRS J. 214, 2024, and ours).

``cloud`` is ``(N, H, W)``, 1 where the optical image shows cloud and 0 elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..datasets.map_dataset import IGNORED
from .irm import clear_share_target
from .losses import distillation_loss, gate_loss, soften

#: How much more than a clear pixel a cloudy one counts in cloud removal.
CLOUDY_GAIN = 5.0
#: The removal loss is nearly the absolute error, and smooth at 0.
REMOVAL_EPS, REMOVAL_POWER = 1e-6, 0.45


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over the pixels that count; 0 where none does.

    Args:
        logits: ``(N, K, H, W)``; brought to the grid of the target where that is coarser.
        target: ``(N, h, w)`` int64 class numbers or `IGNORED`.
    """
    if not (target != IGNORED).any():
        return logits.sum() * 0
    return functional.cross_entropy(on_grid_of(target, logits), target, ignore_index=IGNORED)


def on_grid_of(target: Tensor, logits: Tensor) -> Tensor:
    """Return logits ``(N, K, h, w)`` on the grid of a label map, interpolated bilinearly."""
    size = target.shape[-2:]
    if logits.shape[-2:] == size:
        return logits
    return functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def removal_loss(restored: Tensor, clear: Tensor, cloud: Tensor) -> Tensor:
    """``mean((1 + 5 M) ((y' - y)^2 + 1e-6)^0.45)``.

    Args:
        restored: ``(N, C, H, W)``.
        clear: ``(N, C, H, W)`` in [0, 1].
        cloud: M.
    """
    error = ((restored - clear) ** 2 + REMOVAL_EPS) ** REMOVAL_POWER
    return ((1 + CLOUDY_GAIN * cloud[:, None]) * error).mean()


def feature_loss(features: Tensor, taught: Tensor, cloud: Tensor) -> Tensor:
    """``mean((1 - M) (F_s - F_t)^2)`` over all pixels: the teacher is imitated where it is clear.

    Args:
        features: ``(N, F, H, W)`` of the student.
        taught: Those of the teacher.
        cloud: M.
    """
    return ((1 - cloud[:, None]) * (features - taught.detach()) ** 2).mean()


def answer_loss(logits: Tensor, taught: Tensor, seen: Tensor, temperature: float) -> Tensor:
    """``T^2 KL`` between the soft answers of teacher and student, at every pixel, cloudy or clear.

    Args:
        logits: ``(N, K, H, W)`` of the student.
        taught: Those of the teacher.
        seen: ``(N, H, W)``, 0 where no modality shows the student the ground: nothing is learned
            there.
        temperature: T.
    """
    return (seen * distillation_loss(soften(taught, temperature), logits, temperature)).mean()


def pixel_gate_loss(gate: Tensor, cloud: Tensor, there: Tensor) -> Tensor:
    """``KL(target || gate)``: optical as far as a pixel is clear, SAR for the rest.

    Where one modality is absent the other is all that there is, cloudy or not.

    Args:
        gate: ``(N, 2, H, W)`` shares.
        cloud: M.
        there: ``(N, 2, H, W)``, 1 where a modality is and 0 elsewhere.
    """
    usable = torch.stack((there[:, 0] * (1 - cloud), there[:, 1]), dim=1)
    rows = usable.permute(0, 2, 3, 1).reshape(-1, 2)
    return gate_loss(gate.permute(0, 2, 3, 1).reshape(-1, 2), clear_share_target(rows)).mean()
