"""What the instruments are: band names, polarizations, units and product-level facts.

What a particular *model* expects (which bands, which statistics) stands in its manifest instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import InputError

#: Sentinel-2 MSI bands in wavelength order, as a Level-1C product and SEN12MS list them.
SENTINEL2_L1C_BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
)  # fmt: skip
#: Level-2A has no cirrus band B10.
SENTINEL2_L2A_BANDS = tuple(band for band in SENTINEL2_L1C_BANDS if band != "B10")
NO_CIRRUS = (
    "These look like Level-2A, which has no cirrus band B10: take the Level-1C product of the same "
    "scene, or train a model on Level-2A"
)
#: The public EuroSAT-MS GeoTIFFs put B8A last.
EUROSAT_BANDS = tuple(b for b in SENTINEL2_L1C_BANDS if b != "B8A") + ("B8A",)

SENTINEL1_POLARIZATIONS = ("VV", "VH")
#: All pairs of sent and received polarization.
POLARIZATIONS = ("VV", "VH", "HH", "HV")

#: Reflectance per digital number of Sentinel-2 L1C and L2A products.
SENTINEL2_DN_SCALE = 1e-4
#: The digital number that marks absent data in Sentinel-2 products.
SENTINEL2_NODATA = 0
#: No measurement lies below or above these, whatever the surface: they are marks of absent pixels.
LOWEST_REFLECTANCE, LOWEST_DB, HIGHEST = -0.25, -100.0, 100.0


def sentinel2_dn_offset(baseline: str) -> int:
    """Return the offset to add to a Sentinel-2 digital number before scaling.

    Since processing baseline 04.00 (25 January 2022) products are written with
    ``RADIO_ADD_OFFSET = BOA_ADD_OFFSET = -1000``; older baselines carry none. Harmonized
    collections have the offset removed already: use ``"00.00"`` for those.

    Args:
        baseline: Processing baseline as in the product name, such as ``"05.10"`` or ``"N0510"``.

    Raises:
        InputError: The baseline is not of the form ``NN.NN`` or ``NNNNN``.
    """
    match = re.fullmatch(r"[Nn]?(\d{2})\.?(\d{2})", baseline.strip())
    if match is None:
        raise InputError(
            f"Sentinel-2 processing baseline is {baseline!r}, expected a form like '05.10'",
            hint="Read it from the product name (N0510) or its metadata",
        )
    return -1000 if int(match[1]) >= 4 else 0


def wrong_count_hint(count: int, channels: Sequence[str]) -> str:
    """Return what an image of another number of channels may be; empty where nothing is likely.

    Args:
        count: Channels that it has.
        channels: Those of the model.
    """
    if count == len(SENTINEL2_L2A_BANDS) and tuple(channels) == SENTINEL2_L1C_BANDS:
        return NO_CIRRUS
    is_radar = set(channels) <= set(POLARIZATIONS)
    if count > len(POLARIZATIONS) if is_radar else count == len(SENTINEL1_POLARIZATIONS):
        return "Were optical and SAR swapped?"
    if count in (3, 4) and not is_radar:
        return (
            "These look like the colors of a picture; the model needs every band, as the product "
            "has them"
        )
    return ""


def band_name(text: str) -> str:
    """Return the canonical spelling of a Sentinel-2 band or a polarization.

    ``"B8"``, ``"b08"`` and ``"B08"`` become ``"B08"``; ``"vv"`` becomes ``"VV"``. Text that is
    neither is returned stripped, so that an unknown channel name can be reported as written.
    """
    text = text.strip()
    if match := re.fullmatch(r"[Bb](\d{1,2})", text):
        return f"B{int(match[1]):02d}"
    if re.fullmatch(r"[Bb]0?8[Aa]", text):
        return "B8A"
    if text.upper() in POLARIZATIONS:
        return text.upper()
    return text
