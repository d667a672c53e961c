"""Measure `Backscatter` on real pairs of clear optical and SAR images.

The unit is a chip of 64 x 64 pixels. Within it the pixels of a cover are those whose share of the
cover around, read from the optical chip, exceeds `PURE`; levels are medians of the mean over 5 x 5
pixels, so that speckle does not shift them. Every place counts alike, however many chips it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Array, Floats

from .backscatter import MEASURED, Backscatter
from .covers import COVERS, cover_shares, read_structure, step
from .noise import box_mean

CHIP = 64
MIN_PIXELS = 150
#: Least share of a cover, over 7 x 7 pixels, that counts as pure. Water is so much darker than its
#: banks that the banks must be out of sight.
PURE = (0.97, 0.7, 0.7, 0.7, 0.7)
#: Standard deviation in dB that speckle leaves in a mean over 5 x 5 pixels of even ground.
SPECKLE_LEFT = 0.9
#: A chip counts as quiet where that mean varies by less than this, in dB.
QUIET = 1.1


@dataclass(frozen=True)
class RealPair:
    """One real image pair.

    Attributes:
        place: Name of the place; images of one place share it.
        sar: ``(2, H, W)`` float32 sigma0 in dB, VV and VH; NaN where there is no data.
        optical: ``(13, H, W)`` clear digital numbers in the order of Sentinel-2 bands, or None.
        water: ``(H, W)`` bool, where known water is; used where there is no optical image.
    """

    place: str
    sar: Floats
    optical: Array | None = None
    water: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class CoverChip:
    """Statistics in dB of one cover within one chip."""

    place: str
    cover: str
    vv: float
    vh: float
    texture: float
    ratio_texture: float


def read_shares(optical: Array, bands: Sequence[str]) -> Floats:
    """Shares of the covers from the pixels alone, ``(5, H, W)``."""
    structure = read_structure(optical, bands)
    green = step(structure.ndvi, 0.38, 0.15)
    return cover_shares(structure, green * structure.dark, structure.town)


def chips(pair: RealPair) -> Iterator[tuple[Array | None, Floats, Floats | None]]:
    """Cut a pair into chips without overlap: optical, SAR, water; those with data throughout."""
    _, height, width = pair.sar.shape
    for row in range(0, height - CHIP + 1, CHIP):
        for column in range(0, width - CHIP + 1, CHIP):
            cut = np.s_[..., row : row + CHIP, column : column + CHIP]
            if np.isfinite(pair.sar[cut]).all():
                water = None if pair.water is None else pair.water[cut].astype(np.float32)
                yield None if pair.optical is None else pair.optical[cut], pair.sar[cut], water


def cover_chips(pair: RealPair, bands: Sequence[str]) -> Iterator[CoverChip]:
    """Statistics of every cover that fills enough of a chip."""
    for optical, sar, water in chips(pair):
        if optical is not None:
            shares = read_shares(optical, bands)
        elif water is not None:
            shares = np.stack([water] + [np.zeros_like(water)] * (len(COVERS) - 1))
        else:
            continue
        yield from chip_statistics(pair.place, shares, sar)


def chip_statistics(place: str, shares: Floats, sar: Floats) -> Iterator[CoverChip]:
    """Statistics of the covers of one chip with shares ``(5, H, W)`` and ``sar`` in dB."""
    smooth = _smooth(sar)
    for name, share, least in zip(COVERS, box_mean(shares, 3), PURE, strict=True):
        pure = share > least
        if pure.sum() >= MIN_PIXELS:
            vv, vh = smooth[:, pure]
            middle = float(np.median(vv)), float(np.median(vh))
            texture = _without(float(vv.std()), SPECKLE_LEFT)
            yield CoverChip(place, name, *middle, texture,
                            _without(float((vv - vh).std()), SPECKLE_LEFT * 2**0.5))  # fmt: skip


def measure(pairs: Iterable[RealPair], bands: Sequence[str]) -> Backscatter:
    """Measure levels, their spread, texture, looks and blur; the noise floor stays as it is.

    Raises:
        ValueError: A cover is not found, or no chip is quiet enough.
    """
    pairs = list(pairs)
    found = [chip for pair in pairs for chip in cover_chips(pair, bands)]
    columns: dict[str, list[float]] = {name: [] for name in _COLUMNS}
    for cover in COVERS:
        own = [chip for chip in found if chip.cover == cover]
        if not own:
            raise ValueError(f"no chip shows enough of cover {cover!r}; more pairs are needed")
        for name, value in _cover_row(own).items():
            columns[name].append(round(value, 2))
    looks, blur = _speckle(sar for pair in pairs for optical, sar, _ in chips(pair)
                           if optical is not None)  # fmt: skip
    measured: dict[str, Any] = {name: tuple(values) for name, values in columns.items()}
    return replace(MEASURED, looks=looks, blur=blur, **measured)


_COLUMNS = ("vv", "vh", "level_std", "ratio_std", "texture", "texture_spread", "ratio_texture")


def _cover_row(own: list[CoverChip]) -> dict[str, float]:
    places = [chip.place for chip in own]
    weight = np.array([1 / places.count(place) for place in places])
    weight /= weight.sum()
    table = np.array([(c.vv, c.vh, c.vv - c.vh, np.log(c.texture), c.ratio_texture) for c in own])
    mean = weight @ table
    std = np.sqrt(weight @ (table - mean) ** 2)
    # The middle place: one flooded field full of reeds must not make all water bright.
    by_place = [table[[place == name for name in places], :2].mean(axis=0) for place in set(places)]
    vv, vh = np.median(by_place, axis=0)
    level_std, ratio_std = (_spread(table[:, column], weight) for column in (0, 2))
    values = (vv, vh, level_std, ratio_std, np.exp(mean[3]), std[3], mean[4])
    return {name: float(value) for name, value in zip(_COLUMNS, values, strict=True)}


def _spread(values: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> float:
    """Half the way from the 16th to the 84th percentile: a standard deviation without outliers."""
    order = np.argsort(values)
    low, high = np.interp((0.16, 0.84), np.cumsum(weight[order]), values[order])
    return float(high - low) / 2


def _speckle(sars: Iterable[Floats]) -> tuple[float, tuple[float, float, float]]:
    """Looks and blur of chips where nothing but speckle varies, from variance and spectrum."""
    power, looks = [], []
    window = np.hanning(CHIP)[:, None] * np.hanning(CHIP)
    for sar in sars:
        for channel, smooth in zip(sar, _smooth(sar), strict=True):
            if smooth.std() < QUIET:
                linear = (10 ** (channel / 10)).astype(np.float32)
                even = linear / box_mean(linear, 10)
                looks.append(1 / float(even.var()))
                power.append(np.abs(np.fft.fft2((even - even.mean()) * window)) ** 2)
    if not power:
        raise ValueError(f"no chip varies by less than {QUIET} dB; even ground is needed")
    mean = np.mean(power, axis=0)
    half = CHIP // 2 + 1
    line = np.log(0.5 * (mean[:6, :half].mean(axis=0) + mean[:half, :6].mean(axis=1)))
    # The lowest frequencies hold what the division by the local mean has left of the ground.
    used = np.arange(5, half)
    wave = np.cos(2 * np.pi * used / CHIP), np.cos(4 * np.pi * used / CHIP)
    best, chosen = np.inf, (1.0, 0.0, 0.0)
    for near in np.arange(0.40, 0.70, 0.005):
        for far in np.arange(0.0, 0.20, 0.005):
            model = 2 * np.log(np.abs(1 + 2 * near * wave[0] + 2 * far * wave[1]) + 1e-3)
            misfit = float((model - line[used]).std())
            if misfit < best:
                total = 1 + 2 * near + 2 * far
                best, chosen = misfit, (1 / total, near / total, far / total)
    # What texture there is lowers the looks, so the upper quartile is nearest to speckle alone.
    center, near, far = (round(float(weight), 3) for weight in chosen)
    return round(float(np.quantile(looks, 0.75)), 1), (center, near, far)


def _smooth(sar: Floats) -> Floats:
    linear = (10 ** (sar / 10)).astype(np.float32)
    return np.asarray(10 * np.log10(np.maximum(box_mean(linear, 2), 1e-5)), np.float32)


def _without(spread: float, speckle: float) -> float:
    """Standard deviation that is left when speckle is taken off; at least 0.3 dB."""
    return float(max(spread**2 - speckle**2, 0.09) ** 0.5)
