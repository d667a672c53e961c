"""The tasks by name; other packages add theirs (entry point group ``esccs_edge.tasks``)."""

from __future__ import annotations

from typing import Any

from ...errors import InputError, ManifestError
from ..registry import Registry
from ..task import Task
from .scene_classification import SceneClassification
from .semantic_segmentation import SemanticSegmentation
from .series_classification import SeriesClassification
from .series_segmentation import SeriesSegmentationTask

#: Task -> what opens its bundles; `open_model` opens all.
_FRONT_DOORS = {
    SceneClassification.name: "Classifier",
    SemanticSegmentation.name: "Segmenter",
    SeriesClassification.name: "SeriesClassifier",
    SeriesSegmentationTask.name: "SeriesSegmenter",
}

_TASKS: Registry[Task[Any]] = Registry("esccs_edge.tasks", "manifest field 'task'", ManifestError)


def register(task: Task[Any]) -> None:
    """Make a task known under its name.

    Raises:
        ManifestError: Another task has that name.
    """
    _TASKS.register(task)


def task_named(name: str) -> Task[Any]:
    """Return a task.

    Raises:
        ManifestError: No task of that name is known.
    """
    return _TASKS.named(name)


def require_task(found: str, wanted: str) -> None:
    """Refuse bundles of other tasks.

    Args:
        found: ``manifest.task``.
        wanted: The task that is done here.

    Raises:
        InputError: It is another task.
    """
    if found == wanted:
        return
    door = _FRONT_DOORS.get(found, "open_model")
    raise InputError(
        f"the bundle's task is {found!r}, expected {wanted!r}",
        hint=f"Open it with `esccs_edge.{door}`; map a scene with `esccs-edge map`",
    )


register(SceneClassification())
register(SemanticSegmentation())
register(SeriesClassification())
register(SeriesSegmentationTask())
