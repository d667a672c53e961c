"""Outputs and pixel statistics of a batch -> one answer per sample: the task's, or an error.

Nothing here can fail a whole batch for the sake of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backends.base import LaneOutput
from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec
from ..contracts.tasks import task_named
from ..contracts.values import Flag, PixelStats, Sample
from ..errors import BackendError, EsccsError
from ..pixels.radiometry import flags_of, radiometry_problem


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
    specs = tuple(manifest.modalities.values())
    columns = [output.stats[name] for name in manifest.modalities]
    found = []
    rows = task.rows(output.outputs, manifest)
    for row, sample, *seen in zip(rows, batch, *columns, strict=True):
        if not any([stats.valid for stats in seen]):
            found.append(task.without_pixels(_flags_without_pixels(seen), manifest))
            continue
        flags = {Flag.RETRIED} if retried else set()
        problem = _judge(sample, seen, specs, flags)
        found.append(task.answer(row, flags, manifest) if problem is None else problem)
    return found


def _judge(
    sample: Sample, seen: Sequence[PixelStats], specs: Sequence[ModalitySpec], flags: set[Flag]
) -> EsccsError | None:
    """Add what the pixels deserve to ``flags``, or return why their values are refused."""
    for pixels, stats, spec in zip(sample.pixels.values(), seen, specs, strict=True):
        if pixels is None or not stats.valid:
            flags.add(Flag.MODALITY_MISSING)
            if stats.nonfinite:
                flags.add(Flag.NONFINITE_MASKED)
            continue
        is_dn = pixels.dtype.kind in "iu"
        flags |= flags_of(stats, spec, is_dn)
        if (problem := radiometry_problem(stats, spec, is_dn)) is not None:
            return problem
    return None


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
         for name, tensor in manifest.outputs.items()]
        + [len(output.stats.get(name, ())) == count for name in manifest.modalities]
    )  # fmt: skip
    if not fits:
        found = {name: array.shape for name, array in output.outputs.items()}
        wanted = {name: (count, *tensor.row) for name, tensor in manifest.outputs.items()}
        rows = {name: len(seen) for name, seen in output.stats.items()}
        raise BackendError(
            f"the backend returned outputs {found} with statistics of {rows} patches, expected "
            f"{wanted} and {count} of each modality"
        )
