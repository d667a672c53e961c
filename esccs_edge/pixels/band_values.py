"""What the bulk of a patch's pixels are, band by band: the values that radiometry is judged by.

Ranks of a few dozen pixels spread over the patch, so that no single pixel decides. A batch is
looked at in one call of the native module, since each call of NumPy costs as much as looking at a
patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import eq
from typing import NamedTuple

import numpy as np

from .. import _preprocess_cpu
from ..contracts.modality import ModalitySpec
from ..contracts.types import Array, Pixels
from ..contracts.values import PixelStats

#: Linear backscatter is floored here before the logarithm, as in ``native/pixel.h``.
LINEAR_FLOOR = 1e-5
#: Rows and columns that are looked at: more where there are few bands, since speckle is strong.
_SIDE, _SIDE_OF_FEW, _FEW = 8, 16, 4
#: Shares of the values below the ranks that a unit is judged by: see `BandValues`.
_SHARES = {"reflectance": (0.5, 0.1), "dB": (0.5, 0.16, 0.84)}
#: The band whose values are few and close together wherever there is no high cloud.
STEPPED_BAND = "B10"


class BandValues(NamedTuple):
    """Ranks of the usable values of each channel, in the manifest's unit.

    Attributes:
        median: Half of the values lie below.
        low: A tenth of them do; of reflectance alone.
        spread: Half the range of the middle two thirds, which is the deviation of a normal
            distribution; of dB alone.
        step: Smallest difference between two values of `STEPPED_BAND` that differ; 0 where fewer
            than three do, or the band is not there.
        even: Channels of one value; of reflectance alone.
    """

    median: list[float]
    low: list[float]
    spread: list[float]
    step: float = 0.0
    even: tuple[int, ...] = ()


def band_values(
    images: Sequence[Pixels | None], seen: Sequence[PixelStats], spec: ModalitySpec
) -> list[BandValues | None]:
    """Look at the pixels of one modality in every sample of a batch.

    Args:
        images: N arrays ``(C, H, W)`` of one size as they are stored; what is None or lies on a GPU
            is not looked at.
        seen: What preprocessing saw in each.
        spec: Contract of the modality.

    Returns:
        The ranks of each; None where no pixel that was looked at is usable.
    """
    if spec.unit not in _SHARES:
        return [None] * len(images)
    whole: list[Array | None] = []
    partial, shape = [], None
    for i, (pixels, stats) in enumerate(zip(images, seen, strict=True)):
        if not isinstance(pixels, np.ndarray):
            whole.append(None)
        elif stats.valid == stats.pixels:
            whole.append(pixels)
            shape = pixels.shape
        else:
            whole.append(None)
            partial.append((i, pixels))
    found: list[BandValues | None] = [None] * len(whole)
    if shape is not None:
        found = _ranked(whole, _usual_look(shape, spec), spec)
    for i, pixels in partial:
        few = pixels.take(_spread_out(pixels.shape))
        columns = few[:, None, spec.valid_mask(few[:, None])[0]]
        if columns.size:
            places = np.arange(columns.size).reshape(len(columns), -1)
            (found[i],) = _ranked([columns], _look(places, spec), spec)
    return found


@lru_cache(maxsize=32)
def _spread_out(shape: tuple[int, int, int]) -> Array:
    """Return where in a contiguous patch the values lie that are looked at: ``(C, n)``."""
    channels, height, width = shape
    side = _SIDE if channels > _FEW else _SIDE_OF_FEW
    rows, columns = -(-height // side), -(-width // side)
    places = np.arange(channels * height * width).reshape(shape)
    return np.ascontiguousarray(
        places[:, rows // 2 :: rows, columns // 2 :: columns].reshape(channels, -1)
    )


class _Look(NamedTuple):
    """What the native module is asked: places, ranks, channel whose steps count, scale, offset."""

    places: Array
    order: Array
    stepped: int
    scale: float
    offset: float


@lru_cache(maxsize=32)
def _usual_look(shape: tuple[int, int, int], spec: ModalitySpec) -> _Look:
    return _look(_spread_out(shape), spec)


def _look(places: Array, spec: ModalitySpec) -> _Look:
    last = places.shape[1] - 1
    order = np.array([round(share * last) for share in _SHARES[spec.unit]])
    stepped = spec.channels.index(STEPPED_BAND) if STEPPED_BAND in spec.channels else -1
    return _Look(places, order, stepped, spec.dn_scale or 1.0, spec.dn_offset)


def _ranked(images: list[Array | None], look: _Look, spec: ModalitySpec) -> list[BandValues | None]:
    """Return the ranks of arrays ``(C, H, W)`` of one size."""
    count = len(images)
    table = np.empty((count, len(look.order), len(look.places)))
    steps = np.empty(count)
    _preprocess_cpu.ranks(images, *look, table, steps)
    if spec.is_linear:
        table = 10 * np.log10(np.maximum(table, LINEAR_FLOOR))
    rows = zip(images, table.tolist(), steps.tolist(), strict=True)
    if spec.unit == "reflectance":
        return [
            None
            if pixels is None
            else BandValues(median, low, [], step, _even(pixels, low, median))
            for pixels, (median, low), step in rows
        ]
    return [
        None
        if pixels is None
        else BandValues(median, [], [(a - b) / 2 for a, b in zip(above, below, strict=True)])
        for pixels, (median, below, above), _ in rows
    ]


def _even(pixels: Array, low: Sequence[float], median: Sequence[float]) -> tuple[int, ...]:
    """Return which bands are of one value: few are looked at whole, those whose ranks are the same.

    Over calm sea nine tenths of near infrared are one digital number, but never all of it.
    """
    if not any(map(eq, low, median)):
        return ()
    asked = [i for i in range(len(median)) if low[i] == median[i]]
    return tuple(i for i in asked if pixels[i].min() == pixels[i].max())
