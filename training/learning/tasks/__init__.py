"""How the tasks are learned, by name: those of this package, and those that others add.

A package adds a task by calling `register`, or by naming an instance in its metadata under the
entry point group ``esccs_edge.learning_tasks``, which is looked at when an unknown name is asked
for.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from esccs_edge.errors import InputError

from ..task import LearningTask
from .scene_classification import SceneClassificationLearning

ENTRY_POINTS = "esccs_edge.learning_tasks"

_TASKS: dict[str, LearningTask[Any, Any]] = {}


def register(task: LearningTask[Any, Any]) -> None:
    """Make a task known under its name.

    Raises:
        InputError: Another task has that name.
    """
    if (known := _TASKS.setdefault(task.name, task)) is not task:
        raise InputError(
            f"two learning tasks are called {task.name!r}: {type(known).__name__} and "
            f"{type(task).__name__}"
        )


def learning_task(name: str) -> LearningTask[Any, Any]:
    """Return how a task is learned.

    Raises:
        InputError: No task of that name can be learned.
    """
    if name not in _TASKS:
        for point in entry_points(group=ENTRY_POINTS, name=name):
            register(point.load())
    if name not in _TASKS:
        raise InputError(
            f"option 'task' is {name!r}, expected one of {', '.join(sorted(_TASKS))}",
            hint="Install the package that adds the task",
        )
    return _TASKS[name]


register(SceneClassificationLearning())
