"""How the comparison of each task is found; what a task needs is imported where it is asked for."""

from __future__ import annotations

from esccs_edge.errors import InputError

from ..options import RunOptions
from ..scene_options import TrainOptions
from ..segmentation_options import SegmentationOptions
from .kind import Kind


def kind_of(options: RunOptions) -> Kind:
    """Return how the task of these options is compared.

    Raises:
        InputError: It is not.
    """
    if isinstance(options, TrainOptions):
        from .scene_kind import SceneComparison

        return SceneComparison()
    if isinstance(options, SegmentationOptions):
        from .map_kind import MapComparison

        return MapComparison()
    raise InputError(
        f"task is {options.task!r}, expected {TrainOptions.task!r} or "
        f"{SegmentationOptions.task!r}: only their methods are compared"
    )
