"""How tasks are learned, by name; other packages add theirs (``esccs_edge.learning_tasks``)."""

from __future__ import annotations

from typing import Any

from esccs_edge.contracts.registry import Registry
from esccs_edge.errors import InputError

from ..task import LearningTask
from .scene_classification import SceneClassificationLearning
from .semantic_segmentation import SemanticSegmentationLearning
from .series_classification import SeriesClassificationLearning
from .series_segmentation import SeriesSegmentationLearning

_TASKS: Registry[LearningTask[Any, Any]] = Registry(
    "esccs_edge.learning_tasks", "option 'task'", InputError
)


def register(task: LearningTask[Any, Any]) -> None:
    """Make a task known under its name.

    Raises:
        InputError: Another task has that name.
    """
    _TASKS.register(task)


def learning_task(name: str) -> LearningTask[Any, Any]:
    """Return how a task is learned.

    Raises:
        InputError: No task of that name can be learned.
    """
    return _TASKS.named(name)


register(SceneClassificationLearning())
register(SemanticSegmentationLearning())
register(SeriesClassificationLearning())
register(SeriesSegmentationLearning())
