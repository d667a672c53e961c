"""Cloud cover of a patch, estimated from its pixels alone.

Training needs to know how far the optical image can be believed, and a ground station has no
cloud mask at hand. The estimate is a logistic model of a handful of smoothed band ratios of
top-of-atmosphere reflectance, with as many of them as the bands allow. Its coefficients were
fitted to agree with s2cloudless masks of real cloudy images; `docs/cloud-simulation.md` says how
far it does on places that were not fitted. It is a reliability for training and evaluation, not a
cloud mask product, and it is not s2cloudless.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from esccs_edge.contracts.types import Array, Floats
from esccs_edge.errors import InputError

from ..datasets.index import reading_spec
from ..simulate.noise import box_mean

VISIBLE = ("B02", "B03", "B04")
SHORTWAVE = (*VISIBLE, "B08", "B11")
CIRRUS = (*SHORTWAVE, "B10")
#: Log-odds of a cloud: one coefficient for each of `cloud_features`, then the constant, by the
#: bands that are there. Fitted by `docs/cloud_estimate.py` to the s2cloudless masks (threshold
#: 0.7, averaged over 4 and widened by 2 pixels) of 15 SEN12MS-CR images of six places (CC-BY 4.0),
#: with their clear partners and EuroSAT patches (MIT) as clear sky, at three gains and offsets.
COEFFICIENTS = {
    VISIBLE: (-0.38, 7.93, -1.83, 12.36),
    SHORTWAVE: (1.84, 6.08, -3.73, 4.13, 5.38, -0.40, 13.56),
    CIRRUS: (1.65, 6.11, -1.89, 4.12, 5.33, -0.12, 0.36, 12.58),
}
#: Normalized difference of B03 and B11 between cloud and snow, which is dark in the shortwave.
SNOW_RANGE = (0.55, 0.7)
#: Darkest value between ground and cloud for pictures of unknown bands scaled to [0, 1].
UNKNOWN_BRIGHT_RANGE = (0.42, 0.55)
#: Masks are drawn with a margin around clouds; features are means over 2 * 3 + 1 pixels.
SMOOTHING_RADIUS = 3
_TINY = 1e-3


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
    """Return how cloud-like each pixel is, ``(H, W)`` in [0, 1]; at 0.5 cloud is as likely as not.

    Around pixels that are not finite or all zero, the neighbors that are there count alone.
    """
    used = usable_bands(bands)
    if used is None:
        low, high = UNKNOWN_BRIGHT_RANGE
        return np.asarray(_falling(-reflectance.min(axis=0), -high, -low), np.float32)
    channel = {band: reflectance[list(bands).index(band)] for band in used}
    *slopes, constant = np.asarray(COEFFICIENTS[used], np.float32)
    features = pixel_features(channel)
    odds = np.tensordot(np.stack(slopes), features, axes=1) + constant
    likelihood = 1 / (1 + np.exp(-smoothed(np.asarray(odds, np.float32), reflectance)))
    if "B11" in channel:
        likelihood *= _falling(_difference(channel["B03"], channel["B11"]), *SNOW_RANGE)
    return np.asarray(likelihood, np.float32)


def usable_bands(bands: Sequence[str]) -> tuple[str, ...] | None:
    """Return the largest key of `COEFFICIENTS` among the bands; None without visible ones."""
    return next((key for key in (CIRRUS, SHORTWAVE, VISIBLE) if set(key) <= set(bands)), None)


def pixel_features(channel: dict[str, Array]) -> Floats:
    """Return ``(F, H, W)``: what tells clouds from ground, for the bands of a `COEFFICIENTS` key.

    Logarithms make a gain a constant, and bounds keep glint and dark water from deciding. In
    order: darkest visible band, blue, color; vegetation, snow and soil; cirrus.
    """
    visible = np.stack([channel[band] for band in VISIBLE])
    darkest, brightest = visible.min(axis=0), visible.max(axis=0)
    features = [
        np.log(np.clip(darkest, 0.03, 0.6)),
        np.log(np.clip(channel["B02"], 0.03, 0.6)),
        (brightest - darkest) / np.maximum(brightest, _TINY),
    ]
    if "B11" in channel:
        infrared, shortwave = channel["B08"], channel["B11"]
        features += [
            _difference(infrared, channel["B04"]),
            np.clip(_difference(channel["B03"], shortwave), -0.6, 0.6),
            np.log(np.clip(shortwave / np.maximum(infrared, _TINY), 0.3, 2.0)),
        ]
    if "B10" in channel:
        features.append(np.log(np.clip(channel["B10"], 0.001, 0.06) / 0.001))
    return np.stack(features).astype(np.float32)


def smoothed(field: Floats, reflectance: Array) -> Floats:
    """Return the mean of ``(..., H, W)`` over the valid neighbors of each pixel."""
    if reflectance[0].all() and np.isfinite(field.sum()):  # the cheap test, for almost every patch
        return box_mean(field, SMOOTHING_RADIUS)
    present = np.asarray(np.isfinite(reflectance).all(axis=0) & reflectance.any(axis=0), np.float32)
    share = box_mean(present, SMOOTHING_RADIUS)
    kept = field.copy()
    kept[..., present == 0] = 0
    return np.asarray(box_mean(kept, SMOOTHING_RADIUS) / np.maximum(share, _TINY), np.float32)


def _difference(one: Array, other: Array) -> Array:
    """Normalized difference."""
    return np.asarray((one - other) / np.maximum(one + other, _TINY))


def _falling(value: Array, full: float, none: float) -> Array:
    """1 up to ``full``, 0 from ``none`` on, linear between."""
    return np.clip((none - value) / (none - full), 0.0, 1.0)
