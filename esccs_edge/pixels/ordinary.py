"""Whether there is nothing to say of a patch: a few comparisons, since most patches are so.

Never True where `radiometry` would refuse or flag: a test holds them to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..contracts.sensors import HIGHEST, LOWEST_DB, LOWEST_REFLECTANCE
from ..contracts.values import PixelStats
from .band_limits import (
    BRIGHT_CIRRUS,
    BRIGHT_CROSS_DB,
    BRIGHTEST_BAND,
    FEW_CLIPPED,
    IMPLAUSIBLE_DB,
    SMALLEST_SPREAD_DB,
    BandRules,
)
from .band_values import BandValues


def _is_ordinary_reflectance(stats: PixelStats, bands: BandValues, rules: BandRules) -> bool:
    pixels, valid, nonfinite, below, above, minimum, maximum, _ = stats
    median, low, _, step, even = bands
    darkest = min(median)
    return (
        valid == pixels
        and not nonfinite
        and minimum > rules.lowest
        and maximum <= HIGHEST
        and below + above <= FEW_CLIPPED * valid * len(median)
        and rules.dark <= max(median) <= BRIGHTEST_BAND
        and darkest >= LOWEST_REFLECTANCE
        and step <= rules.wide_step
        and (
            rules.cirrus is None
            or (median[rules.cirrus] == darkest and low[rules.cirrus] <= BRIGHT_CIRRUS)
        )
        and len(set(median)) == len(median)
        and not even
    )


def _is_ordinary_backscatter(stats: PixelStats, bands: BandValues, rules: BandRules) -> bool:
    pixels, valid, nonfinite, below, above, minimum, maximum, _ = stats
    median, _, spread, *_ = bands
    return (
        valid == pixels
        and not nonfinite
        and minimum >= LOWEST_DB
        and maximum <= HIGHEST
        and below + above <= FEW_CLIPPED * valid * len(median)
        and min(median) >= IMPLAUSIBLE_DB
        and max(median) < 0
        and max(spread) >= SMALLEST_SPREAD_DB
        and (
            rules.cross is None
            or (median[rules.cross] <= median[rules.co] and median[rules.cross] <= BRIGHT_CROSS_DB)
        )
        and len(set(median)) == len(median)
    )


#: Unit -> whether there is nothing to say of a patch.
IS_ORDINARY: Mapping[str, Callable[[PixelStats, BandValues, BandRules], bool]] = {
    "reflectance": _is_ordinary_reflectance,
    "dB": _is_ordinary_backscatter,
}
