"""What the values of a patch say: refused, flagged, or nothing unusual.

Judged from the statistics that preprocessing gathers, so that no pixel is read twice.
"""

from __future__ import annotations

from ..contracts.modality import ModalitySpec
from ..contracts.values import Flag, PixelStats
from ..errors import InputError

#: Share of values outside the clip range above which a pair is flagged.
CLIPPED_SHARE = 0.1
#: Reflectance above which a mean cannot be reflectance; 2 is twice a perfect white surface.
IMPLAUSIBLE_REFLECTANCE = 2.0
#: No pixel of a Sentinel-1 patch is this dark: the noise floor lies above -30 dB. Negative numbers
#: taken for linear sigma0 end up on the kernel's floor of -50 dB.
IMPLAUSIBLE_DB = -45.0


def radiometry_problem(stats: PixelStats, spec: ModalitySpec, is_dn: bool) -> InputError | None:
    """Return the error for values that cannot be what the manifest asks for, or None.

    Args:
        stats: What preprocessing saw.
        spec: Contract of the modality.
        is_dn: True if the pixels were integers.
    """
    if not stats.valid:
        return None
    if spec.unit == "reflectance" and not is_dn and stats.mean > IMPLAUSIBLE_REFLECTANCE:
        return InputError(
            f"optical float values have mean {stats.mean:.4g}, expected reflectance around 0..1",
            hint="These look like digital numbers: pass them as uint16, or multiply by 1e-4",
        )
    if spec.unit == "dB" and stats.minimum >= 0 and stats.maximum > stats.minimum:
        return InputError(
            f"SAR values span {stats.minimum:.4g}..{stats.maximum:.4g}, expected dB around -35..5",
            hint="These look like linear sigma0: use `sar_unit='linear'` or 10*log10",
        )
    if spec.unit == "dB" and -100 <= stats.maximum < IMPLAUSIBLE_DB:
        return InputError(
            f"no SAR value is above {stats.maximum:.4g} dB, expected around -35..5",
            hint="If these were dB, pass them without `sar_unit='linear'`",
        )
    if spec.unit == "dB" and stats.mean < -100:
        return InputError(
            f"SAR values have mean {stats.mean:.4g}, expected dB around -35..5",
            hint="These look like scaled integers: divide so that the unit is dB",
        )
    return None


def flags_of(stats: PixelStats, spec: ModalitySpec, is_dn: bool) -> set[Flag]:
    """Return what a user should know about the pixels of one present modality."""
    flags = set()
    if stats.valid < stats.pixels:
        flags.add(Flag.PARTIAL_NODATA)
    if stats.nonfinite:
        flags.add(Flag.NONFINITE_MASKED)
    values = stats.valid * len(spec.channels)
    if stats.below + stats.above > CLIPPED_SHARE * values:
        flags.add(Flag.CLIPPED)
    if stats.valid and _looks_suspect(stats, spec, is_dn, values):
        flags.add(Flag.RADIOMETRY_SUSPECT)
    return flags


def _looks_suspect(stats: PixelStats, spec: ModalitySpec, is_dn: bool, values: int) -> bool:
    if spec.unit == "reflectance":
        # Below 0: an offset applied twice. A maximum under 2.6 %: 8-bit numbers read as 16-bit.
        too_dark = is_dn and stats.maximum < 0.026
        return too_dark or stats.below > 0.05 * values or stats.mean > IMPLAUSIBLE_REFLECTANCE
    if spec.unit == "dB":
        return stats.mean < -50 or stats.mean > 10
    return False
