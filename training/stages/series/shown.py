"""What a network is shown of a batch of series: all observed dates, or those that are kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..stage import Batch


def complete(batch: Batch, sensors: Sequence[str]) -> tuple[list[Tensor], Tensor]:
    """Return the sensors with all observed dates, and their availability ``(N, M)``."""
    series = [batch[name] for name in sensors]
    return series, availability(series)


def kept(batch: Batch, sensors: Sequence[str]) -> tuple[list[Tensor], Tensor]:
    """Return the sensors with nothing but the dates of ``keep``, and their availability."""
    series = [hide(batch[name], batch["keep"][:, i]) for i, name in enumerate(sensors)]
    return series, availability(series)


def hide(series: Tensor, keep: Tensor) -> Tensor:
    """Return ``(N, C, T * H, W)`` without the dates where ``keep (N, T)`` is false."""
    rows = series.shape[2] // keep.shape[1]
    mask = keep.repeat_interleave(rows, dim=1) if rows > 1 else keep
    return series * mask[:, None, :, None].to(series.dtype)


def availability(series: Sequence[Tensor]) -> Tensor:
    """Return the share of valid pixels of each sensor ``(N, M)``, as the runtime counts them."""
    shares = [(one != 0).any(dim=1).float().mean(dim=(1, 2)) for one in series]
    return torch.stack(shares, dim=1)
