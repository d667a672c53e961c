"""The tasks by name: those of this package, and those that other packages add.

A package adds a task by calling `register`, or by naming an instance in its metadata under the
entry point group ``esccs_edge.tasks``, which is looked at when an unknown name is asked for.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from ...errors import ManifestError
from ..task import Task
from .scene_classification import SceneClassification

ENTRY_POINTS = "esccs_edge.tasks"

_TASKS: dict[str, Task[Any]] = {}


def register(task: Task[Any]) -> None:
    """Make a task known under its name.

    Raises:
        ManifestError: Another task has that name.
    """
    if (known := _TASKS.setdefault(task.name, task)) is not task:
        raise ManifestError(
            f"two tasks are called {task.name!r}: {type(known).__name__} and {type(task).__name__}"
        )


def task_named(name: str) -> Task[Any]:
    """Return a task.

    Raises:
        ManifestError: No task of that name is known.
    """
    if name not in _TASKS:
        for point in entry_points(group=ENTRY_POINTS, name=name):
            register(point.load())
    if name not in _TASKS:
        raise ManifestError(
            f"manifest field 'task' is {name!r}, expected one of {', '.join(sorted(_TASKS))}",
            hint="Install the package that adds the task, or the esccs-edge version that knows it",
        )
    return _TASKS[name]


register(SceneClassification())
