"""What tools write into a band's description, and which band or polarization they mean by it.

A description may carry a band's code (``"B8A"``, ``"Band 8 - NIR"``), a central wavelength
(``"842 nm"``) or a name: the common names of STAC's eo extension, those of the public collections
and of ESA's band table. The more exact kind decides: codes, then wavelengths, then names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..contracts.sensors import POLARIZATIONS, SENTINEL2_L1C_BANDS, band_name

KNOWN = frozenset((*SENTINEL2_L1C_BANDS, *POLARIZATIONS))

#: Lowest and highest central wavelength in nm of each band: as nominal, and as of Sentinel-2A to C.
_WAVELENGTHS = {
    "B01": (440, 446), "B02": (488, 497), "B03": (557, 563), "B04": (662, 668), "B05": (702, 708),
    "B06": (738, 743), "B07": (778, 785), "B08": (830, 845), "B8A": (862, 868), "B09": (940, 948),
    "B10": (1370, 1380), "B11": (1608, 1616), "B12": (2183, 2205),
}  # fmt: skip
#: Names in lower case without anything but letters and digits.
_NAMES = {
    "B01": ("coastal", "coastalaerosol", "aerosol", "aerosols", "ultrablue"),
    "B02": ("blue",),
    "B03": ("green",),
    "B04": ("red",),
    "B05": ("rededge1", "rededge071", "re1", "vegetationrededge1"),
    "B06": ("rededge2", "rededge075", "re2", "vegetationrededge2"),
    "B07": ("rededge3", "rededge078", "re3", "vegetationrededge3"),
    "B08": ("nir", "nir1", "nearinfrared", "widenir"),
    "B8A": ("nir08", "nir2", "narrownir", "nirnarrow", "rededge4", "re4", "vegetationrededge4"),
    "B09": ("nir09", "watervapor", "watervapour", "wv"),
    "B10": ("cirrus", "swircirrus"),
    "B11": ("swir16", "swir1", "shortwaveinfrared1"),
    "B12": ("swir22", "swir2", "shortwaveinfrared2"),
}
_BAND_OF_NAME = {name: band for band, names in _NAMES.items() for name in names}
#: Words of what is computed from a band, or stands beside it, and is no measurement of it.
_DERIVED = frozenset(
    "coh coherence phase ifg interferogram std stddev stdev variance uncertainty mask msk qa "
    "quality qualit detfoo count counts angle incidence entropy".split()
)
_CO, _CROSS = ("copol", "copolarization", "likepol"), ("crosspol", "crosspolarization", "xpol")


def channels_named(
    descriptions: Sequence[str | None], channels: Sequence[str] = ()
) -> list[str | None]:
    """Return the channel that each description means, None where it means none.

    Numbers that only count the bands (``"Band 1"``, ``"Band 2"``, ... in this order) mean none.

    Args:
        descriptions: One entry per band.
        channels: Channels of the model, which may have names of its own.
    """
    if are_counted(descriptions):
        return [None] * len(descriptions)
    return [_channel(text, channels) if text else None for text in descriptions]


def are_counted(descriptions: Sequence[str | None]) -> bool:
    """Return whether descriptions only count the bands from 0 or 1, in some word or none."""
    found = [re.fullmatch(r"\s*(.*?)(\d+)\s*", text or "") for text in descriptions]
    words = {match[1].lower() if match else None for match in found}
    numbers = [int(match[2]) for match in found if match]
    if len(words) != 1 or None in words or numbers[0] not in (0, 1):
        return False
    may_be_codes = words == {"b"} and numbers[0] == 1 and numbers[-1] <= 12  # B01 to B12
    return not may_be_codes and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def is_derived(text: str) -> bool:
    """Return whether a description speaks of something else than a band, such as its mask."""
    return not _DERIVED.isdisjoint(
        word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)
    )


def _channel(text: str, channels: Sequence[str]) -> str | None:
    whole = band_name(text)
    if whole in KNOWN or whole in channels:
        return whole
    if is_derived(text):
        return None
    for found in (_codes(text), _by_wavelength(text), _by_name(text, channels)):
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _codes(text: str) -> set[str]:
    numbered = re.sub(r"(?i)\bband[\s_-]*0*(\d{1,2}a?)(?![0-9a-z])", r" B\1 ", text)
    return {band_name(word) for word in re.split(r"[^0-9A-Za-z]+", numbered)} & KNOWN


def _by_wavelength(text: str) -> set[str]:
    found = set()
    text = f"{text} nm" if re.fullmatch(r"\s*\d{3,4}(\.\d+)?\s*", text) else text
    for number, unit in re.findall(r"(?i)(\d+(?:\.\d+)?)\s*(nm|nanomet|[uµμ]m|micromet)", text):
        nanometers = float(number) * (1 if unit.lower().startswith("n") else 1000)
        found |= {b for b, (low, high) in _WAVELENGTHS.items() if low <= nanometers <= high}
    return found


def _by_name(text: str, channels: Sequence[str]) -> set[str]:
    words = [word.lower() for word in re.split(r"[^0-9A-Za-z]+", text) if word]
    together = "".join(words)
    if ("red", "edge") in zip(words, words[1:], strict=False):  # never the red band
        at = words.index("edge")
        words[at - 1 : at + 1] = ["rededge"]
    if together in (*_CO, *_CROSS):
        # Which of two co-polarizations is meant, only the model can tell.
        return {c for c in channels if c in POLARIZATIONS and (c[0] == c[1]) == (together in _CO)}
    for length in range(len(words), 0, -1):  # "narrow NIR" before "NIR"
        parts = ("".join(words[i : i + length]) for i in range(len(words) - length + 1))
        if found := {_BAND_OF_NAME[part] for part in parts if part in _BAND_OF_NAME}:
            return found
    return set()
