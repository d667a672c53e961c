"""Outputs and pixel statistics of a batch -> one answer per sample: the task's, or an error.

Nothing here can fail a whole batch for the sake of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from ..backends.base import LaneOutput
from ..contracts.manifest import Manifest
from ..contracts.modality import valid_pixels
from ..contracts.task import Task
from ..contracts.tasks import task_named
from ..contracts.types import Mask
from ..contracts.values import DevicePixels, Flag, PixelStats, Sample
from ..errors import BackendError, EsccsError, InputError
from ..pixels.radiometry import judged
from ..system.heat import BOARD


def answers(
    output: LaneOutput, batch: Sequence[Sample], manifest: Manifest, *, retried: bool = False
) -> list[Any]:
    """Return one answer per sample, in order; an error stands in the place of its sample alone.

    Args:
        output: What a lane returned for ``batch``.
        batch: The N samples, as they were started.
        manifest: Contract of the model.
        retried: True if the backend failed once before it gave ``output``.

    Raises:
        BackendError: The arrays do not have one row per sample in the shape of the manifest.
    """
    _check_shapes(output, len(batch), manifest)
    task = task_named(manifest.task)
    columns = [output.stats[name] for name in manifest.modalities]
    standing = _standing_flags(retried)
    judgments = judged(batch, output.stats, manifest.modalities)
    found = []
    rows = task.rows(output.outputs, manifest)
    for row, sample, judgment, *seen in zip(rows, batch, judgments, *columns, strict=True):
        if not any([stats.valid for stats in seen]):
            found.append(task.without_pixels(_flags_without_pixels(seen), manifest))
        elif isinstance(judgment, InputError):
            found.append(judgment)
        else:
            flags = standing | judgment if standing else judgment
            found.append(_answer(task, row, flags, sample, seen, manifest))
    return found


def _standing_flags(retried: bool) -> set[Flag]:
    """Return what is to be said of every answer of a batch."""
    flags = {Flag.RETRIED} if retried else set()
    if BOARD.is_throttled():
        flags.add(Flag.THROTTLED)
    return flags


def _answer(
    task: Task[Any],
    row: Any,
    flags: Set[Flag],
    sample: Sample,
    seen: Sequence[PixelStats],
    manifest: Manifest,
) -> Any:
    answer = task.answer(row, flags, manifest)
    is_whole = any(stats.pixels and stats.valid == stats.pixels for stats in seen)
    if is_whole or isinstance(answer, EsccsError):
        return answer
    try:
        return task.masked(answer, lambda: _valid_pixels(sample, manifest))
    except InputError as error:
        return error


def _valid_pixels(sample: Sample, manifest: Manifest) -> Mask:
    if any(isinstance(pixels, DevicePixels) for pixels in sample.pixels.values()):
        raise InputError(
            "every modality lacks pixels, and some lie on the GPU, where it is not seen which",
            hint="Give such patches as arrays on the host",
        )
    return valid_pixels(sample.pixels, manifest.modalities)


def _flags_without_pixels(seen: Sequence[PixelStats]) -> set[Flag]:
    flags = {Flag.ALL_NODATA}
    if not all(stats.pixels for stats in seen):
        flags.add(Flag.MODALITY_MISSING)
    if any(stats.nonfinite for stats in seen):
        flags.add(Flag.NONFINITE_MASKED)
    return flags


def _check_shapes(output: LaneOutput, count: int, manifest: Manifest) -> None:
    fits = all(
        [name in output.outputs and output.outputs[name].shape == (count, *tensor.row)
         for name, tensor in manifest.returned.items()]
        + [len(output.stats.get(name, ())) == count for name in manifest.modalities]
    )  # fmt: skip
    if not fits:
        found = {name: array.shape for name, array in output.outputs.items()}
        wanted = {name: (count, *tensor.row) for name, tensor in manifest.returned.items()}
        rows = {name: len(seen) for name, seen in output.stats.items()}
        raise BackendError(
            f"the backend returned outputs {found} with statistics of {rows} patches, expected "
            f"{wanted} and {count} of each modality"
        )
