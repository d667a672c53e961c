"""Missing dates filled before a network sees them: what is done where nothing is reconstructed."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolated(series: Tensor) -> Tensor:
    """Return ``(N, C, T, 1)`` with missing dates on the line between their neighbors in time.

    Before the first and after the last date that was seen its value holds; what was never seen
    stays missing.
    """
    before, after = _neighbors(series)
    dates = torch.arange(series.shape[2]).expand_as(before)
    span = (after - before).clamp_min(1)
    share = ((dates - before) / span).clamp(0, 1)[:, None, :, None].to(series.dtype)
    first, last = _taken(series, before), _taken(series, after)
    return first + share * (last - first)


def carried_forward(series: Tensor) -> Tensor:
    """Return ``(N, C, T, 1)`` with the last seen value at missing dates; the first before it."""
    return _taken(series, _neighbors(series)[0])


def _neighbors(series: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places ``(N, T)`` of the nearest seen dates not after and not before each."""
    seen = (series != 0).any(dim=1)[..., 0]
    dates = torch.arange(series.shape[2])
    last = series.shape[2] - 1
    before = torch.where(seen, dates, -1).cummax(dim=1).values
    after = torch.where(seen, dates, last + 1).flip(1).cummin(dim=1).values.flip(1)
    before, after = (
        torch.where(before < 0, after, before).clamp(0, last),
        torch.where(after > last, before, after).clamp(0, last),
    )
    return before, after


def _taken(series: Tensor, places: Tensor) -> Tensor:
    return series.gather(2, places[:, None, :, None].expand_as(series))
