"""Cloud cover of a patch, estimated from its pixels alone.

Training needs to know how far the optical image can be believed, and a ground station has no
cloud mask at hand. The estimate is a per-pixel rule on top-of-atmosphere reflectance: clouds are
bright and gray even in their darkest visible band. It is a reliability for training and
evaluation, not a cloud mask product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from esccs_edge.contracts.types import Array, Floats
from esccs_edge.errors import InputError

from ..datasets.index import reading_spec

VISIBLE = ("B02", "B03", "B04")
#: Darkest visible reflectance between surely ground and surely cloud, for gray pixels.
BRIGHT_RANGE = (0.17, 0.25)
#: Relative spread of the visible bands between gray and colored.
COLOR_RANGE = (0.35, 0.55)
#: Normalized difference of B03 and B11 between cloud and snow, which is dark in the shortwave.
SNOW_RANGE = (0.55, 0.7)
#: B11 / B08 between cloud and bright soil, which is brighter in the shortwave.
SOIL_RANGE = (1.15, 1.35)
#: The same bound as `BRIGHT_RANGE` for pictures of unknown bands scaled to [0, 1].
UNKNOWN_BRIGHT_RANGE = (0.42, 0.55)
_TINY = 1e-4


def estimate_cloud_cover(reflectance: Array, bands: Sequence[str]) -> float:
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
    valid = reading_spec(tuple(bands)).valid_mask(reflectance)
    if not valid.any():
        return 0.0
    return float(cloud_likelihood(reflectance, bands)[valid].mean())


def cloud_likelihood(reflectance: Array, bands: Sequence[str]) -> Floats:
    """Return how cloud-like each pixel is, ``(H, W)`` in [0, 1]."""
    channel = {band: reflectance[i] for i, band in enumerate(bands)}
    if not set(VISIBLE) <= channel.keys():
        low, high = UNKNOWN_BRIGHT_RANGE
        return np.asarray(_falling(-reflectance.min(axis=0), -high, -low), np.float32)
    visible = np.stack([channel[band] for band in VISIBLE])
    darkest, brightest = visible.min(axis=0), visible.max(axis=0)
    low, high = BRIGHT_RANGE
    likelihood = _falling(-darkest, -high, -low)
    likelihood *= _falling((brightest - darkest) / np.maximum(brightest, _TINY), *COLOR_RANGE)
    if "B11" in channel:
        shortwave = np.maximum(channel["B11"], _TINY)
        snow = (channel["B03"] - shortwave) / (channel["B03"] + shortwave)
        likelihood *= _falling(snow, *SNOW_RANGE)
        if "B08" in channel:
            likelihood *= _falling(shortwave / np.maximum(channel["B08"], _TINY), *SOIL_RANGE)
    return np.asarray(likelihood, np.float32)


def _falling(value: Array, full: float, none: float) -> Array:
    """1 up to ``full``, 0 from ``none`` on, linear between."""
    return np.clip((none - value) / (none - full), 0.0, 1.0)
