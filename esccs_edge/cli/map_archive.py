"""``esccs-edge map --catalog``: many scenes in, a map of each and one table out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .progress import Progress
from .shell import CommandResult

if TYPE_CHECKING:
    from ..archive.run import ArchiveSummary
    from ..contracts.bundle_files import Precision

#: Failed scenes that the text names; the table has them all.
_NAMED = 10


def map_archive(
    catalog: Path,
    folder: Path,
    *,
    engine: str,
    workers: int | None,
    gpus_per_worker: float,
    bundle: str,
    backend: str,
    precision: Precision,
    stride: int | None,
    dn_offset: int | None,
    sar_unit: str | None,
) -> CommandResult:
    """Classify the scenes of a catalog; the exit code is 1 if any of them failed."""
    from ..archive.run import classify_archive
    from ..archive.scene_list import read_scene_list
    from ..archive.worker import ArchiveOptions

    scenes = read_scene_list(catalog)
    options = ArchiveOptions(
        folder.resolve(),
        bundle if bundle == "default" else str(Path(bundle).resolve()),
        backend,
        stride,
        dn_offset,
        sar_unit,
        precision,
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
    if len(failed) > _NAMED:
        lines.append(f"  and {len(failed) - _NAMED} more; the table has their reasons")
    if summary.statistics.suffix != ".parquet":
        lines.append('  For GeoParquet run: pip install "esccs-edge[scale]"')
    return "\n".join(lines)
