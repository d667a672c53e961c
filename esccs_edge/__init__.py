"""Scene classification of cloudy satellite images from optical and SAR, on the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .bundle import Bundle
from .errors import EsccsError
from .manifest import Manifest
from .scene import Flag, Gate, Prediction, ScenePair

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
    "ScenePair",
]


def __getattr__(name: str) -> Any:
    if name == "Classifier":  # loads the kernels and, when made, a backend
        from .classifier import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
