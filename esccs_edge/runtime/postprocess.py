"""Outputs and pixel statistics of a batch -> one answer per sample: the task's, or an error.

Nothing here can fail a whole batch for the sake of one sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    each_stats = _by_sample(output.stats, len(batch))
    found = []
    for row, sample, stats in zip(
        task.rows(output.outputs, manifest), batch, each_stats, strict=True
    ):
        flags = {Flag.RETRIED} if retried else set()
        if not any(seen.valid for seen in stats.values()):
            found.append(task.without_pixels(_flags_without_pixels(stats), manifest))
        elif (problem := _judge(sample, stats, manifest.modalities, flags)) is not None:
            found.append(problem)
        else:
            found.append(task.answer(row, flags, manifest))
    return found


def _by_sample(
    stats: Mapping[str, Sequence[PixelStats]], count: int
) -> list[dict[str, PixelStats]]:
    return [{name: seen[i] for name, seen in stats.items()} for i in range(count)]


def _judge(
    sample: Sample,
    stats: Mapping[str, PixelStats],
    specs: Mapping[str, ModalitySpec],
    flags: set[Flag],
) -> EsccsError | None:
    """Add what the pixels deserve to ``flags``, or return why their values are refused."""
    for name, seen in stats.items():
        pixels = sample.pixels[name]
        if pixels is None or not seen.valid:
            flags.add(Flag.MODALITY_MISSING)
            if seen.nonfinite:
                flags.add(Flag.NONFINITE_MASKED)
            continue
        is_dn = pixels.dtype.kind in "iu"
        flags |= flags_of(seen, specs[name], is_dn)
        if (problem := radiometry_problem(seen, specs[name], is_dn)) is not None:
            return problem
    return None


def _flags_without_pixels(stats: Mapping[str, PixelStats]) -> set[Flag]:
    flags = {Flag.ALL_NODATA}
    if not all(seen.pixels for seen in stats.values()):
        flags.add(Flag.MODALITY_MISSING)
    if any(seen.nonfinite for seen in stats.values()):
        flags.add(Flag.NONFINITE_MASKED)
    return flags


def _check_shapes(output: LaneOutput, count: int, manifest: Manifest) -> None:
    found = {name: array.shape for name, array in output.outputs.items()}
    wanted = {name: (count, *tensor.row) for name, tensor in manifest.outputs.items()}
    rows = {name: len(seen) for name, seen in output.stats.items()}
    if found != wanted or rows != dict.fromkeys(manifest.modalities, count):
        raise BackendError(
            f"the backend returned outputs {found} with statistics of {rows} patches, expected "
            f"{wanted} and {count} of each modality"
        )
