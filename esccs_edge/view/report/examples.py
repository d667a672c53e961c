"""Pictures of mistakes for a report, as ``data:`` addresses."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from ...contracts.modality import ModalitySpec
from ...contracts.types import Array
from ...rasters.channels import narrowed
from ..pictures import (
    ABSENT_COLOR,
    Picture,
    class_picture,
    optical_picture,
    sar_picture,
    true_color_channels,
)

#: Side of the picture of one series.
STRIP_PX = 180


def data_picture(pixels: Array | None, spec: ModalitySpec, channels: Sequence[str] = ()) -> str:
    """Return one modality of a sample as an address that holds the picture itself.

    Args:
        pixels: ``(C, H, W)`` as stored, or None where the modality is absent.
        spec: Contract of the modality.
        channels: Names of the channels of ``pixels``; empty: those of the contract.
    """
    if pixels is None:
        return _address(None)
    known = list(channels or spec.channels)
    if spec.unit == "dB":
        shown = spec.channels
        draw = sar_picture
    else:
        shown, draw = true_color_channels(spec), optical_picture
    return _address(draw(pixels[[known.index(name) for name in shown]], narrowed(spec, shown)))


def series_picture(pixels: Array, spec: ModalitySpec, dates: int) -> str:
    """Return a series as an address: one pixel as channels by dates, images at their fullest date.

    Args:
        pixels: ``(C, T * H, W)`` as stored.
        spec: Contract of the sensor.
        dates: T.
    """
    images = pixels.reshape(len(pixels), dates, -1, pixels.shape[2])
    if images.shape[2:] != (1, 1):
        valid = ((images != spec.nodata) & np.isfinite(images)).any(axis=0)
        return data_picture(images[:, valid.sum(axis=(1, 2)).argmax()], spec)
    strip = images[:, :, 0, 0].astype(np.float64)
    strip[strip == spec.nodata] = np.nan
    seen = np.isfinite(strip)
    low = np.where(seen, strip, np.inf).min(axis=1, keepdims=True)
    high = np.where(seen, strip, -np.inf).max(axis=1, keepdims=True)
    gray = np.where(seen, 255 * (strip - low) / np.maximum(high - low, 1e-9), 0)
    shown = np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)
    shown[~seen] = ABSENT_COLOR
    side = (STRIP_PX, STRIP_PX)
    return _address(np.asarray(cv2.resize(shown, side, interpolation=cv2.INTER_NEAREST), np.uint8))


def label_picture(labels: Array, classes: Sequence[str]) -> str:
    """Return class numbers ``(H, W)`` as an address that holds their map; others are absent."""
    known = (labels >= 0) & (labels < len(classes))
    return _address(class_picture(np.where(known, labels, 255).astype(np.uint8), classes))


def _address(picture: Picture | None) -> str:
    """Encode a picture as PNG; a pixel without color stands for an absent modality."""
    if picture is None:
        empty = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="  # noqa: E501
        return f"data:image/png;base64,{empty}"
    _, encoded = cv2.imencode(".png", picture[:, :, ::-1])
    return f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"
