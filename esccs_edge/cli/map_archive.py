"""``esccs-edge map --catalog``: many scenes in, a map of each and one table out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..contracts.modality import modality_title
from .options import given_digest
from .progress import Progress
from .shell import CommandResult

if TYPE_CHECKING:
    from ..archive.run import ArchiveSummary
    from .model_options import ModelOptions

#: Failed scenes that the text names; the table has them all.
_NAMED = 10


def map_archive(
    model: ModelOptions,
    catalog: str,
    folder: Path,
    *,
    remote: bool,
    stride: int | None,
    engine: str,
    workers: int | None,
    gpus_per_worker: float,
) -> CommandResult:
    """Classify the scenes of a catalog; the exit code is 1 if any of them failed."""
    from ..archive.run import classify_archive
    from ..archive.scene_list import read_scene_list
    from ..archive.worker import ArchiveOptions
    from ..contracts.bundle import SHIPPED

    scenes = read_scene_list(catalog, remote=remote)
    options = ArchiveOptions(
        folder.resolve(),
        model.bundle if model.bundle in SHIPPED else str(Path(model.bundle).resolve()),
        model.backend,
        stride,
        model.dn_offset,
        model.sar_unit,
        model.precision,
        given_digest(),
        model.device,
        model.flavor,
    )
    with Progress("scenes") as progress:
        summary = classify_archive(
            scenes,
            options,
            engine=engine,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            progress=progress,
        )
    document = summary.to_dict()
    return CommandResult(document, _text(summary), exit_code=1 if summary.failed else 0)


def _text(summary: ArchiveSummary) -> str:
    counts, failed = summary.to_dict(), summary.failed
    lines = [
        f"{summary.statistics}  {counts['scenes']} scenes: {counts['classified']} classified, "
        f"{counts['skipped']} already there, {len(failed)} failed, {summary.seconds:.1f} s",
        *(f"  {record.id}: {record.reason}" for record in failed[:_NAMED]),
    ]
    if summary.suspect:
        names = ", ".join(record.id for record in summary.suspect[:_NAMED])
        lines.append(
            f"  {len(summary.suspect)} scenes have values whose scale, offset or order looks wrong "
            f"(column suspect_patches): {names}"
        )
    for modality in ("optical", "sar"):
        if lacking := summary.without(modality):
            names = ", ".join(record.id for record in lacking[:_NAMED])
            title = modality_title(modality)
            lines.append(f"  {len(lacking)} scenes have no {title} image in the list: {names}")
    if len(failed) > _NAMED:
        lines.append(f"  and {len(failed) - _NAMED} more; the table has their reasons")
    if summary.statistics.suffix != ".parquet":
        lines.append('  For GeoParquet run: pip install "esccs-edge[scale]"')
    return "\n".join(lines)
