"""What a satellite image shows, under clouds too, from optical and SAR, on the edge."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    Remedy,
)

if TYPE_CHECKING:
    from .any_task import open_model
    from .classifier import Classifier
    from .contracts.bundle import Bundle
    from .contracts.manifest import Manifest
    from .contracts.tasks.semantic_segmentation import Segmentation
    from .contracts.tasks.series_classification import SeriesPrediction
    from .contracts.tasks.series_segmentation import SeriesSegmentation
    from .example import example_pair
    from .example.series import example_series
    from .pixels.device_pixels import GpuPixels
    from .rasters.reader import read_patch, read_sample
    from .runtime.counters import Stats
    from .runtime.model import Health
    from .scenes.mapping import classify_scene
    from .scenes.summary import SceneSummary
    from .segmenter import Segmenter
    from .series_classifier import SeriesClassifier
    from .series_segmenter import SeriesSegmenter

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
    "GpuPixels",
    "Health",
    "InputError",
    "Manifest",
    "ManifestError",
    "MissingDependencyError",
    "Overloaded",
    "PatchPair",
    "Prediction",
    "RasterError",
    "Remedy",
    "SceneSummary",
    "Segmentation",
    "Segmenter",
    "SeriesClassifier",
    "SeriesPrediction",
    "SeriesSegmentation",
    "SeriesSegmenter",
    "Stats",
    "classify_scene",
    "example_pair",
    "example_series",
    "open_model",
    "read_patch",
    "read_sample",
    "sentinel2_dn_offset",
]

#: Loaded when first asked for: they load the kernels, need a file format or much of the standard
#: library.
_LATE = {
    "Bundle": ".contracts.bundle",
    "Classifier": ".classifier",
    "GpuPixels": ".pixels.device_pixels",
    "Health": ".runtime.model",
    "Manifest": ".contracts.manifest",
    "SceneSummary": ".scenes.summary",
    "Segmentation": ".contracts.tasks.semantic_segmentation",
    "Segmenter": ".segmenter",
    "SeriesClassifier": ".series_classifier",
    "SeriesPrediction": ".contracts.tasks.series_classification",
    "SeriesSegmentation": ".contracts.tasks.series_segmentation",
    "SeriesSegmenter": ".series_segmenter",
    "Stats": ".runtime.counters",
    "classify_scene": ".scenes.mapping",
    "example_pair": ".example",
    "example_series": ".example.series",
    "open_model": ".any_task",
    "read_patch": ".rasters.reader",
    "read_sample": ".rasters.reader",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
