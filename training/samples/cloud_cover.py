"""Cloud cover of a patch, estimated from its pixels alone.

Training needs to know how far the optical image can be believed, and a ground station has no
cloud mask at hand. The estimate is a per-pixel rule on top-of-atmosphere reflectance: clouds are
bright and grey even in their darkest visible band. It is a reliability for training and
evaluation, not a cloud mask product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.errors import InputError

Field = npt.NDArray[np.float32]

VISIBLE = ("B02", "B03", "B04")
#: Darkest visible reflectance between surely ground and surely cloud, for grey pixels.
BRIGHT_RANGE = (0.17, 0.25)
#: Relative spread of the visible bands between grey and coloured.
COLOUR_RANGE = (0.35, 0.55)
#: Normalised difference of B03 and B11 between cloud and snow, which is dark in the shortwave.
SNOW_RANGE = (0.55, 0.7)
#: B11 / B08 between cloud and bright soil, which is brighter in the shortwave.
SOIL_RANGE = (1.15, 1.35)
#: The same bound as `BRIGHT_RANGE` for pictures of unknown bands scaled to [0, 1].
UNKNOWN_BRIGHT_RANGE = (0.42, 0.55)
_TINY = 1e-4


def estimate_cloud_cover(reflectance: npt.NDArray[Any], bands: Sequence[str]) -> float:
    """Estimate the share of cloudy pixels of one patch.

    Args:
        reflectance: ``(C, H, W)`` top-of-atmosphere reflectance; for channels that are not
            Sentinel-2 bands, values in [0, 1] with white at 1.
        bands: Channel names.

    Returns:
        A share in [0, 1]; pixels that are all zero or not finite do not count.

    Raises:
        InputError: The shape does not fit the channel names.
    """
    if reflectance.ndim != 3 or reflectance.shape[0] != len(bands):
        raise InputError(f"patch is {reflectance.shape}, expected ({len(bands)}, H, W)")
    valid = np.isfinite(reflectance).all(axis=0) & reflectance.any(axis=0)
    if not valid.any():
        return 0.0
    return float(cloud_likelihood(reflectance, bands)[valid].mean())


def cloud_likelihood(reflectance: npt.NDArray[Any], bands: Sequence[str]) -> Field:
    """Return how cloud-like each pixel is, ``(H, W)`` in [0, 1]."""
    place = {band: reflectance[i] for i, band in enumerate(bands)}
    if not set(VISIBLE) <= place.keys():
        low, high = UNKNOWN_BRIGHT_RANGE
        return np.asarray(_falling(-reflectance.min(axis=0), -high, -low), np.float32)
    visible = np.stack([place[band] for band in VISIBLE])
    darkest, brightest = visible.min(axis=0), visible.max(axis=0)
    low, high = BRIGHT_RANGE
    likelihood = _falling(-darkest, -high, -low)
    likelihood *= _falling((brightest - darkest) / np.maximum(brightest, _TINY), *COLOUR_RANGE)
    if "B11" in place:
        shortwave = np.maximum(place["B11"], _TINY)
        snow = (place["B03"] - shortwave) / (place["B03"] + shortwave)
        likelihood *= _falling(snow, *SNOW_RANGE)
        if "B08" in place:
            likelihood *= _falling(shortwave / np.maximum(place["B08"], _TINY), *SOIL_RANGE)
    return np.asarray(likelihood, np.float32)


def _falling(value: npt.NDArray[Any], full: float, none: float) -> npt.NDArray[Any]:
    """1 up to ``full``, 0 from ``none`` on, linear between."""
    return np.clip((none - value) / (none - full), 0.0, 1.0)
