"""Pictures of mistakes for a report, as ``data:`` addresses."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2

from ...contracts.modality import ModalitySpec
from ...contracts.types import Array
from ...rasters.channels import narrowed
from ..pictures import Picture, optical_picture, sar_picture, true_color_channels


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


def _address(picture: Picture | None) -> str:
    """Encode a picture as PNG; a pixel without color stands for an absent modality."""
    if picture is None:
        empty = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="  # noqa: E501
        return f"data:image/png;base64,{empty}"
    _, encoded = cv2.imencode(".png", picture[:, :, ::-1])
    return f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"
