"""Scenes to map, one after the other, with progress; finished maps are kept for a while."""

from __future__ import annotations

import queue
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import ClosedError, EsccsError, Overloaded, error_document
from ..runtime.model import ModelRuntime
from ..scenes.mapping import map_scene
from .limits import Limits
from .uploads import without_folder

State = Literal["waiting", "running", "done", "failed", "canceled"]
STATES: tuple[State, ...] = ("waiting", "running", "done", "failed", "canceled")
MAP, SCORES = "map.tif", "map.scores.tif"


class _CanceledError(Exception):
    """Ends a map that nobody wants any more."""


@dataclass
class SceneJob:
    """One scene.

    Attributes:
        id: Not to be guessed, since whoever knows it may fetch the map.
        folder: Its files.
        paths: Modality name -> raster.
        state: See `STATES`.
        done: Patches that are answered.
        total: Patches in all; 0 until it is known.
        result: What `SceneSummary.to_dict` gives, or None.
        error: What `error_document` gives, or None.
        ended_s: When it ended, on the monotonic clock.
    """

    id: str
    folder: Path
    paths: Mapping[str, Path | None]
    state: State = "waiting"
    done: int = 0
    total: int = 0
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    ended_s: float | None = None
    is_canceled: threading.Event = field(default_factory=threading.Event)


class SceneJobs:
    """Maps scenes in a thread of its own. Thread-safe.

    Args:
        model: Any model that can map.
        folder: For the files of all scenes.
        limits: How many wait and how many are kept.
    """

    def __init__(self, model: ModelRuntime[Any], folder: Path, limits: Limits) -> None:
        self._model, self._folder, self._limits = model, folder, limits
        self._jobs: dict[str, SceneJob] = {}
        self._waiting: queue.Queue[SceneJob | None] = queue.Queue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="esccs-scenes", daemon=True)
        self._thread.start()

    def new_folder(self) -> Path:
        """Make the folder of a scene that is about to come.

        Raises:
            Overloaded: Too many scenes wait.
        """
        with self._lock:
            self._require_room()
        folder = self._folder / secrets.token_urlsafe(12)
        folder.mkdir(mode=0o700)
        return folder

    def add(self, folder: Path, paths: Mapping[str, Path | None]) -> SceneJob:
        """Queue a scene whose files lie in a folder of `new_folder`.

        Raises:
            Overloaded: Too many scenes wait.
            ClosedError: After `close`.
        """
        job = SceneJob(folder.name, folder, paths)
        with self._lock:
            self._require_room()
            self._jobs[job.id] = job
            self._waiting.put(job)
        self._forget_old()
        return job

    def get(self, name: str) -> SceneJob | None:
        """Return a scene by its id; None if there is none, or not any more."""
        self._forget_old()
        with self._lock:
            return self._jobs.get(name)

    def cancel(self, job: SceneJob) -> None:
        """End a scene and remove its files, if need be once it has stopped."""
        job.is_canceled.set()
        with self._lock:
            if job.state == "running":
                return
            if job.state == "waiting":
                self._end(job, "canceled")
            self._remove(job)

    def counts(self) -> dict[str, int]:
        """Return state -> scenes that are known."""
        with self._lock:
            found = Counter(job.state for job in self._jobs.values())
        return {state: found[state] for state in STATES}

    def close(self) -> None:
        """End all scenes. Idempotent."""
        with self._lock:
            self._closed = True
            for job in self._jobs.values():
                job.is_canceled.set()
        self._waiting.put(None)
        self._thread.join()

    def _require_room(self) -> None:
        if self._closed:
            raise ClosedError("the service ends")
        waiting = sum(job.state == "waiting" for job in self._jobs.values())
        if waiting >= self._limits.waiting_scenes:
            raise Overloaded(
                f"{waiting} scenes wait, expected fewer", hint="Try again once one is done"
            )

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            with self._lock:
                if job.state != "waiting":
                    continue
                job.state = "running"
            state = self._mapped(job)
            with self._lock:
                self._end(job, state)
                if job.is_canceled.is_set():
                    self._remove(job)

    def _mapped(self, job: SceneJob) -> State:
        def report(done: int, total: int) -> None:
            if job.is_canceled.is_set():
                raise _CanceledError
            job.done, job.total = done, total

        try:
            summary = map_scene(self._model, job.paths, job.folder / MAP, progress=report)
        except _CanceledError:
            return "canceled"
        except EsccsError as error:
            told = without_folder(error, job.folder)
            job.error = error_document(told.code, told.message, told.hint)["error"]
            return "failed"
        except Exception as error:  # one scene must not end the thread that maps the others
            job.error = error_document("fault", f"{type(error).__name__}: {error}")["error"]
            return "failed"
        job.done = job.total = summary.patches
        names = {"class_map": MAP, "scores": SCORES}
        job.result = {**summary.to_dict(), **names}
        return "done"

    def _end(self, job: SceneJob, state: State) -> None:
        """Note the end; the rasters are not needed any more."""
        job.state, job.ended_s = state, time.monotonic()
        for path in job.paths.values():
            if path is not None:
                path.unlink(missing_ok=True)

    def _forget_old(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            ended = [job for job in self._jobs.values() if job.ended_s is not None]
            ended.sort(key=lambda job: job.ended_s or 0.0)
            surplus = len(ended) - self._limits.kept_scenes
            for place, job in enumerate(ended):
                if place < surplus or now_s - (job.ended_s or 0.0) > self._limits.kept_s:
                    self._remove(job)

    def _remove(self, job: SceneJob) -> None:
        self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)
