"""The driver of an archive run: gives scenes to an engine, counts, and writes the table.

It alone writes the table; each scene's own files are written by the worker that has it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contracts.bundle import Bundle
from ..contracts.types import Progress
from ..errors import BackendError, InputError
from ..system.working_folder import remove_ownerless
from .record import SceneRecord
from .scene import ArchiveScene
from .statistics import write_statistics
from .worker import ArchiveOptions, SceneWorker

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class ArchiveSummary:
    """What a run over an archive did.

    Attributes:
        statistics: The written table.
        records: One per scene, in the order of the list.
        seconds: Wall time.
    """

    statistics: Path
    records: tuple[SceneRecord, ...]
    seconds: float

    @property
    def failed(self) -> list[SceneRecord]:
        """Scenes without a result."""
        return [record for record in self.records if record.status == "failed"]

    @property
    def suspect(self) -> list[SceneRecord]:
        """Scenes of which most patches have values that look wrong."""
        return [r for r in self.records if 2 * (r.suspect_patches or 0) > (r.patches or 0)]

    def without(self, modality: str) -> list[SceneRecord]:
        """Scenes that were classified, but for which the list names no raster of a modality."""
        return [r for r in self.records if r.status != "failed" and getattr(r, modality) is None]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        earlier = sum(record.is_earlier for record in self.records)
        failed = [{"id": record.id, "reason": record.reason} for record in self.failed]
        return {
            "statistics": str(self.statistics),
            "scenes": len(self.records),
            "classified": len(self.records) - earlier - len(failed),
            "skipped": earlier,
            "failed": failed,
            "seconds": self.seconds,
        }


def classify_archive(
    scenes: Sequence[ArchiveScene],
    options: ArchiveOptions,
    *,
    engine: str = "local",
    workers: int | None = None,
    gpus_per_worker: float = 0.0,
    progress: Progress | None = None,
) -> ArchiveSummary:
    """Classify every scene of a list that is not finished yet.

    Args:
        scenes: The work list; see `esccs_edge.archive.scene_list.read_scene_list`.
        options: Where to and how; the folder is made if absent.
        engine: ``"local"``: one scene after the other in this process; ``"ray"``: see
            `esccs_edge.archive.ray_engine.ray_records`, also for the next two.
        workers: Most workers at once.
        gpus_per_worker: Share of a GPU that each worker gets.
        progress: Called with (scenes done, scenes in all).

    A scene that fails is a row with its reason. Interrupted, the run goes on where it stopped when
    it is started again.

    Raises:
        InputError: An unknown engine.
        EsccsError: The model cannot run, or the engine failed.
        OSError: The folder or the table cannot be written.
    """
    if engine not in ENGINES:
        raise InputError(f"engine is {engine!r}, expected one of {', '.join(ENGINES)}")
    started = time.perf_counter()
    bundle = Bundle.open(options.bundle, digest=options.digest)
    options.folder.mkdir(parents=True, exist_ok=True)
    remove_ownerless(options.folder)
    if engine == "local":
        records = _local_records(scenes, options)
    else:
        from .ray_engine import ray_records

        records = ray_records(scenes, options, workers=workers, gpus_per_worker=gpus_per_worker)
    found: dict[str, SceneRecord] = {}
    with closing(records):
        for record in records:
            found[record.id] = record
            if progress is not None:
                progress(len(found), len(scenes))
    if len(found) != len(scenes):
        raise BackendError(f"{len(found)} answers came for {len(scenes)} scenes")
    ordered = tuple(found[scene.id] for scene in scenes)
    table = write_statistics(options.folder, ordered, bundle.manifest.classes)
    return ArchiveSummary(table, ordered, time.perf_counter() - started)


def _local_records(
    scenes: Sequence[ArchiveScene], options: ArchiveOptions
) -> Generator[SceneRecord, None, None]:
    with SceneWorker(options) as worker:
        yield from map(worker, scenes)
