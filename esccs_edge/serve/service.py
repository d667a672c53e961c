"""What the service does, without HTTP: it holds the model, reads uploads, answers and maps."""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..contracts.bundle import Bundle
from ..contracts.tasks.scene_classification import SceneClassification
from ..contracts.tasks.semantic_segmentation import SemanticSegmentation
from ..contracts.types import Array
from ..errors import EsccsError, InputError
from ..example import example_pair
from ..runtime.model import ModelRuntime
from .documents import ModelDocument, model_document
from .limits import Limits
from .metrics import Metrics
from .scenes import SceneJob, SceneJobs
from .uploads import read_stored, store, without_folder

#: Tasks that a service answers.
TASKS = (SceneClassification.name, SemanticSegmentation.name)
#: Files that are read at once; each may declare as many pixels as a patch file may.
READERS = 2
#: How long an answer to the golden patch counts.
READY_S = 2.0


class Service:
    """A model at work for many clients; owns the model from now on. Thread-safe.

    Args:
        model: Of a task in `TASKS`.
        bundle: Where it comes from.
        limits: Of the service.

    Raises:
        InputError: The model does another task.
    """

    def __init__(self, model: ModelRuntime[Any], bundle: Bundle, limits: Limits) -> None:
        self.model, self.bundle, self.limits, self.metrics = model, bundle, limits, Metrics()
        self.manifest = model.manifest
        if self.manifest.task not in TASKS:
            raise InputError(
                f"the bundle does {self.manifest.task}, expected one of {', '.join(TASKS)}",
                hint="Use the Python interface for other tasks",
            )
        self._temporary = tempfile.TemporaryDirectory(prefix="esccs-serve-")
        self.folder = Path(self._temporary.name)
        self.scenes = SceneJobs(model, self.folder, limits)
        self._readers = ThreadPoolExecutor(READERS, "esccs-reader")
        self._asked_s, self._problem = 0.0, "the golden patch was not asked yet"
        self._lock = threading.Lock()

    def answer(
        self, optical: BinaryIO | None, sar: BinaryIO | None, deadline_ms: float
    ) -> Future[Any]:
        """Read an uploaded pair and ask the model.

        Returns:
            Its answer; may raise what `ModelRuntime.submit` and its result raise, or `InputError`
            and `RasterError` for a file that cannot be read.
        """
        return self._readers.submit(self._answer, {"optical": optical, "sar": sar}, deadline_ms)

    def _answer(self, files: dict[str, BinaryIO | None], deadline_ms: float) -> Future[Any]:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            try:
                pixels = read_stored(store(files, folder), self.manifest)
            except EsccsError as error:
                raise without_folder(error, folder) from None
        return self.model.submit(pixels, deadline_ms=deadline_ms)

    def add_scene(self, optical: BinaryIO | None, sar: BinaryIO | None) -> SceneJob:
        """Keep an uploaded scene and queue it.

        Raises:
            InputError: No file, or one of no known kind.
            Overloaded: Too many scenes wait.
        """
        folder = self.scenes.new_folder()
        try:
            return self.scenes.add(folder, store({"optical": optical, "sar": sar}, folder))
        except EsccsError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise without_folder(error, folder) from None

    def problem(self) -> str | None:
        """Ask the golden patch, if the last answer is too old; return what is wrong, or None.

        A full queue is no fault: what was known last holds.
        """
        with self._lock:
            is_full = self.model.stats().queued >= self.limits.queue
            if not is_full and time.monotonic() - self._asked_s > READY_S:
                self._problem = self.model.health().problem or ""
                self._asked_s = time.monotonic()
            return self._problem or None

    def describe(self) -> ModelDocument:
        """Return what the service runs and takes."""
        return model_document(
            self.manifest,
            self.bundle.digest,
            self.model.backend.name,
            has_example=self.example("optical") is not None,
        )

    def example(self, modality: str) -> bytes | None:
        """Return one modality of the packaged pair as ``.npy``, where the model takes it."""
        pair, grid = example_pair(), self.manifest.sample
        known: dict[str, Array] = {"optical": pair.optical, "sar": pair.sar}
        pixels = known.get(modality)
        if pixels is None or (grid.height, grid.width) != pixels.shape[1:]:
            return None
        if len(self.manifest.modalities[modality].channels) != len(pixels):
            return None
        buffer = io.BytesIO()
        np.save(buffer, pixels)
        return buffer.getvalue()

    def close(self) -> None:
        """End scenes, answer what is queued, remove all files. Idempotent."""
        self.scenes.close()
        self._readers.shutdown()
        self.model.close()
        self._temporary.cleanup()
