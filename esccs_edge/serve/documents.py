"""The forms of the answers, as the OpenAPI document of the service states them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.manifest import Manifest
from ..contracts.tasks.semantic_segmentation import Segmentation
from .scenes import SceneJob


@dataclass
class GateDocument:
    """How much each modality counted; the two sum to 1, or both are 0."""

    optical: float
    sar: float


@dataclass
class PredictionDocument:
    """The class of one pair."""

    label: str
    confidence: float
    probabilities: dict[str, float]
    gate: GateDocument
    flags: list[str]


@dataclass
class ImageDocument:
    """An image of one byte per pixel: rows from the top, base64; 255 is a pixel without data."""

    height: int
    width: int
    base64: str


@dataclass
class SegmentationDocument:
    """The classes of the pixels of one pair.

    ``label`` holds positions in ``classes``, ``confidence`` and ``gate_optical`` percent.
    """

    classes: list[str]
    class_shares: dict[str, float]
    mean_confidence: float | None
    mean_gate_optical: float | None
    nodata_share: float
    flags: list[str]
    label: ImageDocument
    confidence: ImageDocument
    gate_optical: ImageDocument


@dataclass
class SceneDocument:
    """A scene that is mapped; ``result`` once it is done, ``error`` if it failed."""

    id: str
    state: str
    patches_done: int
    patches: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None


@dataclass
class ModelDocument:
    """What the service runs and takes."""

    name: str
    task: str
    digest: str
    classes: list[str]
    colors: list[str]
    height: int
    width: int
    pixel_size_m: float
    modalities: dict[str, list[str]]
    backend: str
    has_example: bool


def segmentation_document(answer: Segmentation) -> dict[str, Any]:
    """Return the form of an answer per pixel."""
    return {
        **answer.to_dict(),
        "classes": list(answer.classes),
        "label": _image(answer.label),
        "confidence": _image(answer.confidence),
        "gate_optical": _image(answer.gate.optical),
    }


def scene_document(job: SceneJob) -> SceneDocument:
    """Return the form of a scene."""
    return SceneDocument(job.id, job.state, job.done, job.total, job.result, job.error)


def model_document(
    manifest: Manifest, digest: str, backend: str, *, has_example: bool
) -> ModelDocument:
    """Return the form of the model."""
    from ..scenes.palette import class_colors

    grid = manifest.sample
    return ModelDocument(
        name=manifest.name,
        task=manifest.task,
        digest=digest,
        classes=list(manifest.classes),
        colors=["#{:02x}{:02x}{:02x}".format(*color) for color in class_colors(manifest.classes)],
        height=grid.height,
        width=grid.width,
        pixel_size_m=grid.pixel_size_m,
        modalities={name: list(spec.channels) for name, spec in manifest.modalities.items()},
        backend=backend,
        has_example=has_example,
    )


def _image(pixels: Any) -> dict[str, Any]:
    data = np.ascontiguousarray(pixels, np.uint8)
    height, width = data.shape
    return {"height": height, "width": width, "base64": base64.b64encode(data.tobytes()).decode()}
