"""Scenes classified by a pool of Ray workers, each with a classifier of its own.

Ray Data gives one scene at a time to a worker and gives it to another when the worker died. Workers
see the same files as the driver: on several machines the rasters, the archive's folder and the
bundle lie on shared storage under one path.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import BackendError, MissingDependencyError
from ..system.working_folder import working_folder
from .record import SceneRecord, failed, scene_folder
from .scene import ArchiveScene
from .statistics import PARQUET_NAME
from .worker import ArchiveOptions, SceneWorker

try:
    import ray
    import ray.data
except ImportError as error:
    raise MissingDependencyError.for_extra("ray", "scale", "The engine 'ray'") from error

#: Workers that a scene may cost in one run before it is given up as failed.
MAX_ATTEMPTS = 3
_HINT = "Finished scenes are kept; run the same command again to go on"


def ray_records(
    scenes: Sequence[ArchiveScene],
    options: ArchiveOptions,
    *,
    workers: int | None = None,
    gpus_per_worker: float = 0.0,
) -> Generator[SceneRecord, None, None]:
    """Yield one record per scene, as they are finished.

    A worker has one CPU and runs the model with one thread. The cluster is the caller's if Ray is
    initialized, else the one that ``RAY_ADDRESS`` names, else one on this machine that ends with
    the run.

    Args:
        scenes: The work list.
        options: What all workers share.
        workers: Most workers at once; None takes as many as the cluster can hold.
        gpus_per_worker: Share of a GPU that each worker gets; with 0 it runs on its CPU.

    Raises:
        BackendError: No worker can be started, or Ray failed.
    """
    notes = working_folder(options.folder / PARQUET_NAME)
    with _cluster(workers), _no_progress_bars(), notes as attempts:
        size = min(workers or len(scenes), len(scenes), _most_workers(gpus_per_worker))
        rows = [{"scene": scene.to_json()} for scene in scenes]
        # One scene per block: what a dying worker takes with it is one scene.
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _RayWorker,
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            fn_constructor_args=(options, attempts),
            num_cpus=1,
            num_gpus=gpus_per_worker or None,
        )
        try:
            for row in answers.iter_rows():
                yield SceneRecord.from_json(row["record"])
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BackendError(f"Ray could not go on: {reason}", hint=_HINT) from error


class _RayWorker:
    """A `SceneWorker` as Ray Data calls it, with batches of JSON in and out.

    Ray tries a scene again without end, and a raster may kill every worker that reads it. So each
    attempt is noted, as one byte of a file per scene, before it begins.

    Args:
        options: What all workers share.
        attempts: Folder of the notes of this run.
    """

    def __init__(self, options: ArchiveOptions, attempts: Path) -> None:
        self._options, self._attempts = options, attempts
        self._worker = SceneWorker(options, threads=1)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        scenes = [ArchiveScene.from_json(str(text)) for text in batch["scene"]]
        return {"record": [self._record(scene).to_json() for scene in scenes]}

    def _record(self, scene: ArchiveScene) -> SceneRecord:
        try:
            if self._attempt(scene) > MAX_ATTEMPTS:
                return failed(scene, f"{MAX_ATTEMPTS} workers died over it")
            return self._worker(scene)
        except OSError as error:
            return failed(scene, str(error))
        except BackendError:  # this process cannot be trusted; Ray starts another
            os._exit(1)

    def _attempt(self, scene: ArchiveScene) -> int:
        """Note the beginning of an attempt; returns its number, from 1."""
        note = self._attempts / scene_folder(self._options.folder, scene.id).name
        with note.open("ab") as stream:
            stream.write(b".")
            return stream.tell()


@contextmanager
def _cluster(workers: int | None) -> Iterator[None]:
    """Connect to the cluster there is, or have one of our own for the while."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False)
        else:
            ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    except Exception as error:  # Ray raises the bare class when its processes take too long
        raise BackendError(f"Ray does not start: {error}", hint=_HINT) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    context = ray.data.DataContext.get_current()
    before, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield
    finally:
        context.enable_progress_bars = before


def _most_workers(gpus_per_worker: float) -> int:
    """Return how many workers the cluster can hold."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    most = int(found.get("CPU", 0))
    if gpus_per_worker:
        most = min(most, int(found.get("GPU", 0) / gpus_per_worker))
    if most == 0:
        raise BackendError(
            f"the cluster has {found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs, "
            f"expected at least 1 and {gpus_per_worker:g} for one worker"
        )
    return most
