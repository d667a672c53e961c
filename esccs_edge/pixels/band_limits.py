"""What each band can be: the limits that values are judged by, and which a contract allows to ask.

How they were chosen, and how often each is right and wrong on real patches, stands in
``docs/input-checks.md``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ..contracts.modality import ModalitySpec
from ..contracts.sensors import LOWEST_REFLECTANCE
from .band_values import STEPPED_BAND

#: Share of values outside the clip range above which a pair is flagged.
CLIPPED_SHARE = 0.1
#: Reflectance above which half of the values cannot be reflectance: twice a perfect white surface.
IMPLAUSIBLE_REFLECTANCE = 2.0
#: No pixel of a Sentinel-1 patch is this dark: the noise floor lies above -30 dB. Negative numbers
#: taken for linear sigma0 end up on the kernel's floor of -50 dB.
IMPLAUSIBLE_DB = -45.0
#: Backscatter that half of the pixels of a patch never have; real patches come to -6.3 dB.
BRIGHT_DB = 5.0
#: Share of values below 0 that an offset applied twice leaves and nothing else does.
NEGATIVE_SHARE = 0.05

#: Half of the brightest band's pixels are brighter than this: no ground and no sky is so dark. Air
#: alone scatters more than 0.08 to the top of the atmosphere in B01.
DARKEST_BAND = 0.026
DARKEST_L1C_BAND = 0.06
#: Half of the brightest band's pixels are darker; real patches under clouds come to 1.56.
BRIGHTEST_BAND = 1.7
#: Half of the cirrus band's pixels are brighter than half of the darkest other band's, by so much:
#: water vapor takes the light of B10, of the ground all and of most clouds nearly all. It takes
#: less of B09, so B10 is never above that.
CIRRUS_ABOVE_DARKEST = 0.001
#: What a tenth of the cirrus band's pixels lie below; above it, 1000 was added to each number.
BRIGHT_CIRRUS = 0.09
#: Water vapor takes the light of these, so that many of their pixels have one digital number.
EVEN_BANDS = ("B09", "B10")
#: VH above VV by so many dB: the ground turns little of the signal, so VV is 2 dB above, or more.
CROSS_ABOVE_CO_DB = 1.5
#: Backscatter in dB varies more than this within a patch, since speckle alone does.
SMALLEST_SPREAD_DB = 0.3
#: Half of the pixels in VH are brighter, though no polarization varies as a town does: natural
#: logarithms and decibels of an amplitude are numbers nearer to 0, and closer together. Real
#: patches come to -12.8 dB.
BRIGHT_CROSS_DB, CALM_SPREAD_DB = -11.5, 3.0
#: Digital numbers are whole, so values differ by one or more of them, and in the dark and even
#: cirrus band some pair differs by one alone; a stretch or a root draws neighbors apart.
WIDE_STEP = 1.5

#: So small a share of values beyond the clip range says nothing.
FEW_CLIPPED = min(CLIPPED_SHARE, NEGATIVE_SHARE)


class BandRules(NamedTuple):
    """What the bands of a contract allow to be judged.

    Attributes:
        absent: No digital number that is a measurement is so low, in the unit of the modality.
        lowest: Reflectance above it is neither a mark of absent pixels nor darker than black.
        dark: Half of the brightest band's pixels are brighter.
        cirrus: Place of B10; None if the model lacks it or was taught a darker band.
        wide_step: Values of B10 that differ by more are no neighboring digital numbers.
        cross: Place of VH; None if the model lacks it or VV, or was taught a darker one.
        co: Place of VV, if there is ``cross``.
    """

    absent: float
    lowest: float
    dark: float
    cirrus: int | None
    wide_step: float
    cross: int | None
    co: int


@lru_cache(maxsize=32)
def band_rules(spec: ModalitySpec) -> BandRules:
    """Return what may be asked of a modality; kept, since it is asked for each batch."""
    is_l1c = {"B01", "B10"} <= set(spec.channels)
    cirrus = _darkest(spec, STEPPED_BAND)
    cross = _darkest(spec, "VH") if "VV" in spec.channels else None
    absent, wide_step = -float("inf"), float("inf")
    if spec.nodata is not None:
        absent = (spec.nodata + spec.dn_offset + 0.5) * (spec.dn_scale or 1.0)
    if cirrus is not None and spec.dn_scale is not None:
        wide_step = WIDE_STEP * spec.dn_scale
    return BandRules(
        absent=absent,
        lowest=max(absent, LOWEST_REFLECTANCE if cirrus is None else 0.0),
        dark=DARKEST_L1C_BAND if is_l1c else DARKEST_BAND,
        cirrus=cirrus,
        wide_step=wide_step,
        cross=cross,
        co=-1 if cross is None else spec.channels.index("VV"),
    )


def _darkest(spec: ModalitySpec, channel: str) -> int | None:
    if channel not in spec.channels or len(spec.channels) < 2:
        return None
    place = spec.channels.index(channel)
    return place if spec.mean[place] == min(spec.mean) else None
