"""The tasks by name; other packages add theirs (entry point group ``esccs_edge.tasks``)."""

from __future__ import annotations

from typing import Any

from ...errors import ManifestError
from ..registry import Registry
from ..task import Task
from .scene_classification import SceneClassification

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


register(SceneClassification())
