"""What the values of a patch say: refused, flagged, or nothing unusual.

Counts come from the statistics that preprocessing gathers of every pixel; what a value should be is
judged by the bulk of each band (`band_values`), so that one extreme pixel neither hides a wrong
scale nor raises an alarm. How often each check is right and wrong on real patches stands in
``docs/input-checks.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..contracts.modality import Modalities, ModalitySpec, modality_title
from ..contracts.sensors import HIGHEST, LOWEST_DB, LOWEST_REFLECTANCE
from ..contracts.types import Array, Pixels
from ..contracts.values import Flag, PixelStats, Sample
from ..errors import InputError
from .band_limits import (
    BRIGHT_CIRRUS,
    BRIGHT_CROSS_DB,
    BRIGHT_DB,
    BRIGHTEST_BAND,
    CALM_SPREAD_DB,
    CIRRUS_ABOVE_DARKEST,
    CLIPPED_SHARE,
    CROSS_ABOVE_CO_DB,
    DARKEST_BAND,
    EVEN_BANDS,
    IMPLAUSIBLE_DB,
    IMPLAUSIBLE_REFLECTANCE,
    NEGATIVE_SHARE,
    SMALLEST_SPREAD_DB,
    band_rules,
)
from .band_values import BandValues, band_values
from .ordinary import IS_ORDINARY
from .preprocess import preprocess


def judged(
    samples: Sequence[Sample], seen: Mapping[str, Sequence[PixelStats]], modalities: Modalities
) -> list[set[Flag] | InputError]:
    """Return of each sample of a batch the flags that its pixels deserve, or why it is refused.

    Args:
        samples: N checked samples.
        seen: Modality name -> what preprocessing saw in each sample.
        modalities: Contract of each modality.
    """
    found: list[set[Flag] | InputError] = [set() for _ in samples]
    for name, spec in modalities.items():
        images = [sample.pixels[name] for sample in samples]
        ranks = band_values(images, seen[name], spec)
        rules = band_rules(spec)
        is_ordinary = IS_ORDINARY.get(spec.unit)
        rows = zip(images, seen[name], ranks, strict=True)
        for i, (pixels, stats, bands) in enumerate(rows):
            if bands is not None and is_ordinary is not None and is_ordinary(stats, bands, rules):
                continue
            flags = found[i]
            if isinstance(flags, InputError):
                continue
            if pixels is None or not stats.valid:
                flags.add(Flag.MODALITY_MISSING)
                if stats.nonfinite:
                    flags.add(Flag.NONFINITE_MASKED)
                continue
            is_dn = pixels.dtype.kind in "iu"
            problem = radiometry_problem(stats, bands, spec, is_dn, name)
            if problem is None:
                flags |= flags_of(stats, bands, spec)
                if is_dn and isinstance(pixels, np.ndarray) and stats.minimum <= rules.absent:
                    if lacks_bands(pixels, spec):
                        flags.add(Flag.PARTIAL_NODATA)
            else:
                found[i] = problem
    return found


def judged_without_model(sample: Sample, modalities: Modalities) -> set[Flag]:
    """Return the flags that any model of these contracts would raise on a checked sample.

    Raises:
        InputError: It would refuse the values.
    """
    seen = {name: [_seen(sample.pixels[name], spec)] for name, spec in modalities.items()}
    (found,) = judged([sample], seen, modalities)
    if isinstance(found, InputError):
        raise found
    return found


def _seen(pixels: Pixels | None, spec: ModalitySpec) -> PixelStats:
    shape = (len(spec.channels), 1, 1) if pixels is None else pixels.shape
    return preprocess([pixels], spec, np.empty((1, *shape), np.float32))[0]


def lacks_bands(pixels: Array, spec: ModalitySpec) -> bool:
    """Return whether the mark of absent pixels stands in some bands of a pixel and not in all.

    At the edge of a swath the bands end in different columns. B10 is left out: where no cloud is,
    it is about as dark as the mark.

    Args:
        pixels: ``(C, H, W)`` digital numbers of reflectance, in which the mark means nothing else.
        spec: Contract of the modality.
    """
    if spec.nodata is None or spec.unit != "reflectance":
        return False
    marked = pixels == spec.nodata
    absent = marked.all(axis=0)
    judged_bands = (i for i, name in enumerate(spec.channels) if name != "B10")
    return any(bool((marked[i] & ~absent).any()) for i in judged_bands)


def radiometry_problem(
    stats: PixelStats,
    bands: BandValues | None,
    spec: ModalitySpec,
    is_dn: bool,
    name: str = "optical",
) -> InputError | None:
    """Return the error for values that cannot be what the manifest asks for, or None.

    Args:
        stats: What preprocessing saw.
        bands: What the bulk of each band is; None where the pixels lie on a GPU: then the mean and
            the range of all values have to do.
        spec: Contract of the modality.
        is_dn: True if the pixels were integers.
        name: Of the modality.
    """
    if not stats.valid:
        return None
    values = _Bulk(stats, bands)
    if spec.unit == "reflectance":
        return _reflectance_problem(values, is_dn, modality_title(name))
    if spec.unit == "dB":
        return _backscatter_problem(values, spec, modality_title(name))
    return None


class _Bulk:
    """Smallest, middle and largest median of a patch's bands, or the nearest that is known."""

    def __init__(self, stats: PixelStats, bands: BandValues | None) -> None:
        self.minimum, self.maximum, self.mean = stats.minimum, stats.maximum, stats.mean
        self.lowest, self.middle, self.highest = self.minimum, self.mean, self.maximum
        if bands is not None:
            ranked = sorted(bands.median)
            self.lowest, self.highest = ranked[0], ranked[-1]
            self.middle = ranked[len(ranked) // 2]


def _reflectance_problem(values: _Bulk, is_dn: bool, name: str) -> InputError | None:
    if not is_dn and values.middle > IMPLAUSIBLE_REFLECTANCE:
        looks = "digital numbers: pass them as uint16, or multiply by 1e-4"
        if values.middle <= 100:
            looks = "percent, or scaled otherwise: divide so that a white surface has 1"
        return InputError(
            f"{name} float values are about {values.middle:.4g}, expected reflectance around 0..1",
            hint=f"These look like {looks}",
        )
    if values.middle < LOWEST_REFLECTANCE:
        return InputError(
            f"{name} values are about {values.middle:.4g}, expected reflectance around 0..1",
            hint=_ABSENT_OR_OFFSET,
        )
    return None


_ABSENT_OR_OFFSET = (
    "If this number marks absent pixels, set it as the file's nodata tag, or use NaN; else look at "
    "the file's scale and offset tags"
)


def _backscatter_problem(values: _Bulk, spec: ModalitySpec, name: str) -> InputError | None:
    if values.lowest > BRIGHT_DB or (spec.is_linear and values.middle > BRIGHT_DB):
        return InputError(
            f"{name} values are about {_stored(values.middle, spec):.4g}, expected "
            f"{'linear sigma0 around 0.001..1' if spec.is_linear else 'dB around -35..5'}",
            hint="These look like digital numbers of a GRD product: calibrate them to sigma0 first",
        )
    if not spec.is_linear and values.lowest >= 0 and values.maximum > values.minimum:
        return InputError(
            f"{name} values are about {values.lowest:.4g}..{values.highest:.4g}, "
            "expected dB around -35..5",
            hint="These look like linear sigma0: use `sar_unit='linear'` or 10*log10",
        )
    if LOWEST_DB <= values.highest < IMPLAUSIBLE_DB:
        told = ", without `sar_unit='linear'`" if spec.is_linear else ""
        return InputError(
            f"{name} values are about {values.middle:.4g} dB, expected around -35..5",
            hint=f"If these were dB, pass them as they are{told}",
        )
    if values.middle < LOWEST_DB:
        return InputError(
            f"{name} values are about {values.middle:.4g}, expected dB around -35..5",
            hint="These look like scaled integers: divide so that the unit is dB. If this number "
            "marks absent pixels, set it as the file's nodata tag, or use NaN",
        )
    if values.mean < LOWEST_DB:
        return InputError(
            f"{name} has values of {values.minimum:.4g} beside others around {values.middle:.4g}, "
            "expected dB around -35..5",
            hint=f"{values.minimum:.6g} looks like the mark of absent pixels: set it as the file's "
            "nodata tag, or use NaN",
        )
    return None


def _stored(decibel: float, spec: ModalitySpec) -> float:
    return float(10 ** (decibel / 10)) if spec.is_linear else decibel


def flags_of(stats: PixelStats, bands: BandValues | None, spec: ModalitySpec) -> set[Flag]:
    """Return what a user should know about the pixels of one present modality.

    Args:
        stats: What preprocessing saw.
        bands: What the bulk of each band is, or None.
        spec: Contract of the modality.
    """
    flags = set()
    if stats.valid < stats.pixels:
        flags.add(Flag.PARTIAL_NODATA)
    if stats.nonfinite:
        flags.add(Flag.NONFINITE_MASKED)
    values = stats.valid * len(spec.channels)
    if stats.below + stats.above > CLIPPED_SHARE * values:
        flags.add(Flag.CLIPPED)
    if stats.valid and any(suspicions(stats, bands, spec)):
        flags.add(Flag.RADIOMETRY_SUSPECT)
    return flags


def suspicions(stats: PixelStats, bands: BandValues | None, spec: ModalitySpec) -> Iterator[str]:
    """Yield what looks wrong about the values, in words."""
    if spec.unit == "reflectance":
        if stats.below > NEGATIVE_SHARE * stats.valid * len(spec.channels):
            yield "an offset subtracted twice, or none to subtract"
        if stats.minimum < LOWEST_REFLECTANCE or stats.maximum > HIGHEST:
            yield "a mark of absent pixels that is not declared"
        if (stats.minimum, stats.maximum) == (0, 1) and band_rules(spec).cirrus is not None:
            yield "values stretched from 0 to 1"
        if bands is not None:
            yield from _odd_reflectance(bands, spec)
        elif stats.maximum < DARKEST_BAND or stats.mean > BRIGHTEST_BAND:
            yield "values scaled in another way"
    if spec.unit == "dB":
        if stats.minimum < LOWEST_DB or stats.maximum > HIGHEST:
            yield "a mark of absent pixels that is not declared"
        if bands is not None:
            yield from _odd_backscatter(bands, spec)
        elif stats.mean < IMPLAUSIBLE_DB or stats.mean > BRIGHT_DB:
            yield "values scaled in another way"


def _odd_reflectance(bands: BandValues, spec: ModalitySpec) -> Iterator[str]:
    rules = band_rules(spec)
    brightest = max(bands.median)
    if bands.low != bands.median and (
        _has_copies(bands.median, bands.low) or _has_constants(bands, spec)
    ):
        yield "a band that is a copy of another, or all of one value"
    if brightest < rules.dark:
        yield "values scaled twice, or an 8-bit picture read as digital numbers"
    if brightest > BRIGHTEST_BAND:
        yield "values not scaled enough"
    if (cirrus := rules.cirrus) is None:
        return
    if bands.step > rules.wide_step:
        yield "values stretched, a root of them, or scaled otherwise"
    others = {name: bands.median[i] for i, name in enumerate(spec.channels) if i != cirrus}
    above = bands.median[cirrus]
    if above > min(others.values()) + CIRRUS_ABOVE_DARKEST or above > others.get("B09", above):
        yield "bands in another order"
    elif bands.low[cirrus] > BRIGHT_CIRRUS:
        yield "1000 in each digital number that was not subtracted"


def _odd_backscatter(bands: BandValues, spec: ModalitySpec) -> Iterator[str]:
    rules = band_rules(spec)
    if _has_copies(bands.median, bands.spread):
        yield "one polarization in the place of both"
    if min(bands.median) < IMPLAUSIBLE_DB:
        yield "a polarization in another unit, or without an echo"
    if max(bands.spread) < SMALLEST_SPREAD_DB:
        yield "values scaled twice, or constant"
    if rules.cross is not None:
        if bands.median[rules.cross] > bands.median[rules.co] + CROSS_ABOVE_CO_DB:
            yield "VV and VH in another order"
        if bands.median[rules.cross] > BRIGHT_CROSS_DB and max(bands.spread) < CALM_SPREAD_DB:
            yield "natural logarithms, or decibels of an amplitude"


def _has_copies(*ranks: Sequence[float]) -> bool:
    """Return whether two bands have all ranks in common, which those of measurements never have.

    Clouds that were clipped to a white surface are left out.
    """
    of_bands = [found for found in zip(*ranks, strict=True) if set(found) != {1.0}]
    return len(set(of_bands)) < len(of_bands)


def _has_constants(bands: BandValues, spec: ModalitySpec) -> bool:
    """Return whether a band that shows ground is of one value."""
    return any(spec.channels[i] not in EVEN_BANDS and bands.median[i] != 1 for i in bands.even)
