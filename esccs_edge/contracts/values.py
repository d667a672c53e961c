"""The values that travel through the SDK: a sample goes in, an answer comes out."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from .types import Pixels

#: Label of a sample in which no modality holds a usable pixel.
NODATA_LABEL = "NODATA"
#: Marks a pixel without an answer, in arrays of uint8 and in maps.
NODATA = 255


class Flag(str, Enum):
    """What a user should know about the pixels behind an answer; a text equal to its name.

    Attributes:
        PARTIAL_NODATA: Some pixels of a modality were absent.
        ALL_NODATA: No modality held a usable pixel; no class is given.
        NONFINITE_MASKED: NaN or infinite pixels were treated as absent.
        RADIOMETRY_SUSPECT: Scale or order of bands looks wrong.
        MODALITY_MISSING: Judged from one modality alone.
        CLIPPED: Many values lay outside the range the model was trained on.
        UNFAMILIAR: Unlike anything the model was trained on; do not trust the answer.
        RETRIED: The backend failed once and answered on the second try.
        THROTTLED: The board holds its clocks down since it is too hot; only slower.
    """

    PARTIAL_NODATA = "PARTIAL_NODATA"
    ALL_NODATA = "ALL_NODATA"
    NONFINITE_MASKED = "NONFINITE_MASKED"
    RADIOMETRY_SUSPECT = "RADIOMETRY_SUSPECT"
    MODALITY_MISSING = "MODALITY_MISSING"
    CLIPPED = "CLIPPED"
    UNFAMILIAR = "UNFAMILIAR"
    RETRIED = "RETRIED"
    THROTTLED = "THROTTLED"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class DevicePixels:
    """Contiguous pixels that lie on the GPU already; only the TensorRT backend reads them.

    Attributes:
        address: Where they start, for the device.
        shape: ``(C, H, W)``.
        dtype: Of the elements, in native byte order.
        stream: Stream on which they are made, to be waited for: a ``CUstream`` number, or an object
            of the library that made it. None: they are ready.
        owner: Keeps the memory; it must not be written to until the answer is there.
        event: Event to be waited for, of the library that made it; None for none.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: Any
    owner: Any
    event: Any = None


@dataclass(frozen=True)
class Sample:
    """What the network judges at once: the pixels of every modality on one grid.

    Attributes:
        pixels: Modality name -> ``(C, H, W)`` stored pixels, or None where the modality is absent;
            all modalities of the manifest, in its order.

    Arrays here are in native byte order, C-contiguous and of a dtype the kernels take;
    `esccs_edge.pixels.checks.checked_sample` makes them so.
    """

    pixels: Mapping[str, Pixels | None]


class PatchPair(Sample):
    """A sample of the two modalities ``optical`` and ``sar``.

    Args:
        optical: ``(C, H, W)`` digital numbers (integer) or reflectance (float32), or None.
        sar: ``(P, H, W)`` backscatter, float32 dB, or None.
    """

    def __init__(self, optical: Pixels | None, sar: Pixels | None) -> None:
        super().__init__({"optical": optical, "sar": sar})

    @property
    def optical(self) -> Any:
        """The optical pixels, or None."""
        return self.pixels["optical"]

    @property
    def sar(self) -> Any:
        """The SAR pixels, or None."""
        return self.pixels["sar"]


def flag_names(flags: Set[Flag]) -> list[str]:
    """Return the names of flags in one order, as JSON and messages have them."""
    return sorted(flag.value for flag in flags)


@dataclass(frozen=True)
class Gate:
    """How much each modality counted for one prediction; the two sum to 1 (or are both 0)."""

    optical: float
    sar: float


@dataclass(frozen=True)
class Prediction:
    """The answer for one pair.

    Attributes:
        label: Class name, or ``"NODATA"`` where no modality has a usable pixel.
        confidence: Temperature-scaled probability of ``label``, in [0, 1].
        probabilities: Class name -> probability, summing to 1 (all 0 for ``"NODATA"``).
        gate: Share of each modality in the decision.
        flags: What to know about the pixels; empty when nothing was unusual.
    """

    label: str
    confidence: float
    probabilities: Mapping[str, float]
    gate: Gate
    flags: frozenset[Flag] = field(default_factory=frozenset)

    def __repr__(self) -> str:
        shares = f"optical {self.gate.optical:.2f}, SAR {self.gate.sar:.2f}"
        parts = (f"{self.label} {self.confidence:.2f}", shares, *flag_names(self.flags))
        return f"<{type(self).__name__} {', '.join(parts)}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form ``{label, confidence, probabilities, gate, flags}``."""
        return {
            "label": self.label,
            "confidence": self.confidence,
            "probabilities": dict(self.probabilities),
            "gate": {"optical": self.gate.optical, "sar": self.gate.sar},
            "flags": flag_names(self.flags),
        }


class PixelStats(NamedTuple):
    """What preprocessing saw in one modality of one sample.

    Attributes:
        pixels: Number of pixels ``H * W``; 0 when the modality is absent.
        valid: Pixels used, with all channels finite and not all channels nodata.
        nonfinite: Pixels dropped because a channel was NaN or infinite.
        below: Values (channel x pixel, valid pixels only) below the clip range.
        above: Values above the clip range.
        minimum: Smallest valid value in physical units (reflectance or dB); NaN if none.
        maximum: Largest valid value in physical units; NaN if none.
        mean: Mean of the valid values in physical units; NaN if none.
    """

    pixels: int
    valid: int
    nonfinite: int
    below: int
    above: int
    minimum: float
    maximum: float
    mean: float

    @property
    def availability(self) -> np.float32:
        """Share of valid pixels, in [0, 1]; 0 when the modality is absent."""
        return np.float32(self.valid / self.pixels) if self.pixels else np.float32(0)


ABSENT = PixelStats(0, 0, 0, 0, 0, float("nan"), float("nan"), float("nan"))
