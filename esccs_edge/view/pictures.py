"""Raw pixels of a scene -> pictures to look at. NumPy and OpenCV; nothing is measured on these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..contracts.modality import ModalitySpec
from ..contracts.types import Array, Floats, Mask
from ..errors import MissingDependencyError
from ..scenes.palette import class_colors

try:
    import cv2
except ImportError as error:
    raise MissingDependencyError.for_extra(
        "opencv-python-headless", "view", "Drawing pictures"
    ) from error

Picture = npt.NDArray[np.uint8]

#: What an absent pixel looks like, in every panel.
ABSENT_COLOR = (214, 214, 214)
#: Clouds are brighter than this reflectance and may turn white, so that the ground keeps contrast.
BRIGHTEST_REFLECTANCE = 0.35
#: Linear backscatter below this is taken for it, as in preprocessing: 0 has no logarithm.
LOWEST_SIGMA0 = 1e-5
_STRETCH_PERCENT = (1.0, 99.0)
_GAMMA = 0.8
#: Speckle differs between polarizations; full saturation would turn it into colored noise.
_SAR_SATURATION = 0.6


def true_color_channels(spec: ModalitySpec) -> tuple[str, ...]:
    """Return the channels to show as red, green and blue, or the one to show in gray."""
    natural = ("B04", "B03", "B02")
    if set(natural) <= set(spec.channels):
        return natural
    return spec.channels[:3] if len(spec.channels) >= 3 else spec.channels[:1]


def optical_picture(pixels: Array, spec: ModalitySpec) -> Picture:
    """Draw ``(3 or 1, H, W)`` stored optical values as ``(H, W, 3)``.

    The three bands share one stretch, so that hues stay what they are.
    """
    values, valid = _physical(pixels, spec)
    low, high = _range(values[:, valid])
    if spec.unit == "reflectance":
        high = min(high, max(BRIGHTEST_REFLECTANCE, low + 0.05))
    return _colored(_stretched(values, low, high) ** np.float32(_GAMMA), valid)


def sar_picture(pixels: Array, spec: ModalitySpec) -> Picture:
    """Draw ``(P, H, W)`` backscatter as ``(H, W, 3)``.

    VV and VH make a composite: red VV, green VH, blue VV - VH (their ratio, in dB); anything else
    is drawn in gray from the first polarization.
    """
    values, valid = _physical(pixels, spec)
    layers = [values[0]]
    if {"VV", "VH"} <= set(spec.channels):
        vv, vh = (values[spec.channels.index(name)] for name in ("VV", "VH"))
        layers = [vv, vh, vv - vh]
    shown = np.stack([_stretched(layer, *_range(layer[valid])) for layer in layers])
    gray = shown.mean(axis=0, keepdims=True)
    return _colored(gray + np.float32(_SAR_SATURATION) * (shown - gray), valid)


def sar_caption(spec: ModalitySpec) -> str:
    """Say what `sar_picture` shows."""
    if {"VV", "VH"} <= set(spec.channels):
        return "red VV, green VH, blue VV/VH"
    return spec.channels[0]


def class_picture(classes: Picture, names: Sequence[str]) -> Picture:
    """Draw ``(H, W)`` class positions as ``(H, W, 3)`` in the classes' colors."""
    table = np.full((256, 3), ABSENT_COLOR, np.uint8)
    table[: len(names)] = class_colors(names)
    return table[classes]


def resized(picture: Picture, longest_side: int, *, smooth: bool) -> Picture:
    """Return the picture with its longest side at the given number of pixels.

    Args:
        picture: ``(H, W, 3)``.
        longest_side: Pixels wanted.
        smooth: False keeps every pixel's color as it is (class maps).
    """
    height, width = picture.shape[:2]
    factor = longest_side / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    smoothing = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    how = smoothing if smooth else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)


def _physical(pixels: Array, spec: ModalitySpec) -> tuple[Floats, Mask]:
    """Return values in the manifest's unit and ``(H, W)`` where they are valid."""
    values = pixels.astype(np.float32)
    if pixels.dtype.kind in "iu" and spec.dn_scale is not None:
        values = (values + np.float32(spec.dn_offset)) * np.float32(spec.dn_scale)
    if spec.is_linear:
        values = 10 * np.log10(np.maximum(values, np.float32(LOWEST_SIGMA0)))
    return values, spec.valid_mask(pixels)


def _range(values: Floats) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, _STRETCH_PERCENT)
    return float(low), float(max(high, low + 1e-6))


def _stretched(values: Floats, low: float, high: float) -> Floats:
    return np.asarray(np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1), np.float32)


def _colored(layers: Floats, valid: Mask) -> Picture:
    """Make ``(H, W, 3)`` of ``(3 or 1, H, W)`` values in [0, 1]."""
    rgb = np.broadcast_to(layers, (3, *layers.shape[1:])) if len(layers) == 1 else layers
    picture = np.rint(rgb.transpose(1, 2, 0) * 255).astype(np.uint8)
    picture[~valid] = ABSENT_COLOR
    return picture
