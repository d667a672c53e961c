"""What a satellite image shows, under clouds too, from optical and SAR, on the edge."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .contracts.bundle import Bundle
from .contracts.manifest import Manifest
from .contracts.sensors import sentinel2_dn_offset
from .contracts.values import Flag, Gate, PatchPair, Prediction
from .errors import (
    ArtifactError,
    BackendError,
    ClosedError,
    CudaError,
    DeadlineExceeded,
    EsccsError,
    ForkedProcessError,
    InputError,
    ManifestError,
    MissingDependencyError,
    Overloaded,
    RasterError,
)

if TYPE_CHECKING:
    from .any_task import open_model
    from .classifier import Classifier
    from .example import example_pair
    from .rasters.reader import read_patch
    from .scenes.mapping import classify_scene

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "BackendError",
    "Bundle",
    "Classifier",
    "ClosedError",
    "CudaError",
    "DeadlineExceeded",
    "EsccsError",
    "Flag",
    "ForkedProcessError",
    "Gate",
    "InputError",
    "Manifest",
    "ManifestError",
    "MissingDependencyError",
    "Overloaded",
    "PatchPair",
    "Prediction",
    "RasterError",
    "classify_scene",
    "example_pair",
    "open_model",
    "read_patch",
    "sentinel2_dn_offset",
]

#: Loaded when first asked for, since they load the kernels or need a file format.
_LATE = {
    "Classifier": ".classifier",
    "classify_scene": ".scenes.mapping",
    "example_pair": ".example",
    "open_model": ".any_task",
    "read_patch": ".rasters.reader",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
