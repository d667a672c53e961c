"""How the pixels of one modality become network input, and the grid that all modalities share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np

from ..errors import ManifestError
from .calendar import Calendar
from .types import Array, Floats, Mask


@dataclass(frozen=True)
class ModalitySpec:
    """Contract of one modality.

    Integer pixels are digital numbers: ``value = (dn + dn_offset) * dn_scale``. Floating-point
    pixels are in ``stored_unit``; linear backscatter becomes dB, ``10 * log10(sigma0)``. Then
    ``(clip(value) - mean) / std`` per channel. A pixel is valid when all its channels are finite
    and they do not all equal ``nodata`` (compared as stored); invalid pixels become 0 in every
    channel.

    Attributes:
        channels: Band names or polarizations, in the order the network reads them.
        sensor: Instrument, such as ``"Sentinel-2 MSI"``.
        level: Product level, such as ``"L1C"`` or ``"GRD"``.
        unit: Unit of ``clip``, ``mean`` and ``std``: ``"reflectance"``, ``"dB"`` or ``"dn"``.
        dn_scale: Unit per digital number; None means that integer pixels are refused.
        dn_offset: Added to a digital number before scaling.
        nodata: Stored value that marks an absent pixel, or None.
        clip: Lowest and highest value, in ``unit``.
        mean: Per-channel mean of the clipped training values, in ``unit``.
        std: Per-channel standard deviation, in ``unit``; positive.
        stored_unit: Unit of floating-point pixels as they come in; None is ``unit``. ``"linear"``
            is linear sigma0 where ``unit`` is ``"dB"``; ``"dn"``, where ``unit`` is
            ``"reflectance"``, says that all pixels are digital numbers, so that floats are refused.
    """

    channels: tuple[str, ...]
    sensor: str
    level: str
    unit: str
    dn_scale: float | None
    dn_offset: float
    nodata: float | None
    clip: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stored_unit: str | None = None

    def __post_init__(self) -> None:
        count = len(self.channels)
        require(count > 0 and len(set(self.channels)) == count, "channels", self.channels,
                "one or more distinct names")  # fmt: skip
        for name in ("mean", "std"):
            values = getattr(self, name)
            require(len(values) == count and all(map(math.isfinite, values)), name, values,
                    f"{count} finite numbers, one per channel")  # fmt: skip
        require(all(s > 0 for s in self.std), "std", self.std, "positive numbers")
        require(self.dn_scale is None or self.dn_scale > 0, "dn_scale", self.dn_scale,
                "a positive number or null")  # fmt: skip
        require(len(self.clip) == 2 and self.clip[0] < self.clip[1], "clip", self.clip,
                "[low, high] with low < high")  # fmt: skip
        require(self.unit in ("reflectance", "dB", "dn"), "unit", self.unit,
                "'reflectance', 'dB' or 'dn'")  # fmt: skip
        other = {"dB": ("linear",), "reflectance": ("dn",)}
        units = (None, self.unit, *other.get(self.unit, ()))
        require(self.stored_unit in units, "stored_unit", self.stored_unit,
                f"one of {units[1:]} or null")  # fmt: skip

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Computed once, since preprocessing looks up what follows from a contract by it."""
        return hash((self.channels, self.unit, self.clip, self.mean, self.std))

    @cached_property
    def is_linear(self) -> bool:
        """Whether floating-point pixels come in as linear sigma0 and are converted to dB."""
        return self.stored_unit == "linear"

    def stored_as(self, unit: str) -> ModalitySpec:
        """Return the contract for floating-point pixels in another unit.

        Raises:
            ManifestError: The pixels cannot be converted from that unit.
        """
        return replace(self, stored_unit=None if unit == self.unit else unit)

    def stored_floats(self, values: Array) -> Floats:
        """Return values in ``unit`` as floating-point pixels come in: in ``stored_unit``."""
        return np.asarray(np.power(10.0, values / 10.0) if self.is_linear else values, np.float32)

    def valid_mask(self, pixels: Array) -> Mask:
        """Return which pixels ``(H, W)`` of a stored patch ``(C, H, W)`` are valid."""
        valid = np.ones(pixels.shape[1:], bool)
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels).all(axis=0)
        if self.nodata is not None:
            valid &= ~(pixels == self.nodata).all(axis=0)
        return valid


@dataclass(frozen=True)
class SampleSpec:
    """The grid of one sample.

    Attributes:
        height: Rows in pixels.
        width: Columns in pixels.
        pixel_size_m: Ground size of a pixel in meters.
        dates: Length of a time series, or None for a single date.
        calendar: Which part of a season each date stands for; None: not known, or no series.
    """

    height: int
    width: int
    pixel_size_m: float
    dates: int | None = None
    calendar: Calendar | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a positive integer")
        require(self.pixel_size_m > 0, "pixel_size_m", self.pixel_size_m, "a positive number")
        require(self.dates is None or self.dates > 0, "dates", self.dates,
                "a positive integer or null")  # fmt: skip
        slots = None if self.calendar is None else len(self.calendar.starts)
        require(slots in (None, self.dates), "dates", self.dates,
                f"{slots}, one for each slot of the calendar")  # fmt: skip

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns that are read at once: the dates of a series lie below one another."""
        return self.height * (self.dates or 1), self.width


#: Modality name -> contract, in the order of the gate and of the availability input.
Modalities = Mapping[str, ModalitySpec]


def valid_pixels(pixels: Mapping[str, Any], modalities: Modalities) -> Mask:
    """Return ``(H, W)``: True where any modality has a valid pixel by the manifest's rule.

    Args:
        pixels: Modality name -> ``(C, H, W)`` stored pixels on the host, or None; at least one.
        modalities: Their contracts.
    """
    masks = [
        modalities[name].valid_mask(image) for name, image in pixels.items() if image is not None
    ]
    return reduce(np.logical_or, masks)


def modality_title(name: str) -> str:
    """Return a modality's name as it reads in a message."""
    return "SAR" if name == "sar" else name


def require(condition: bool, name: str, found: Any, expected: str) -> None:
    """Refuse a field of a manifest."""
    if not condition:
        raise ManifestError(f"manifest field {name!r} is {found!r}, expected {expected}")
