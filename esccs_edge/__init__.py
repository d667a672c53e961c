"""Scene classification of cloudy satellite images from optical and SAR, on the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .contracts.bundle import Bundle
from .contracts.manifest import Manifest
from .contracts.values import Flag, Gate, PatchPair, Prediction
from .errors import EsccsError

if TYPE_CHECKING:
    from .classifier import Classifier

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "Classifier",
    "EsccsError",
    "Flag",
    "Gate",
    "Manifest",
    "Prediction",
    "PatchPair",
]


def __getattr__(name: str) -> Any:
    if name == "Classifier":  # loads the kernels and, when made, a backend
        from .classifier import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
