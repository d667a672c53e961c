"""One worker: a classifier that takes scene after scene and answers with records.

A scene that fails becomes a record with its reason; only a backend that can no longer be trusted
ends the worker. Each finished scene is on disk, with its record, before the answer is given.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backends.device_choice import FlavorChoice
from ..classifier import Classifier
from ..contracts.bundle_files import Precision
from ..errors import BackendError, EsccsError, InputError, Remedy
from ..rasters.raster_file import regular_file
from ..rasters.reader import open_scene
from ..scenes.map_writer import scores_path_of
from ..scenes.mapping import classify_scene
from ..scenes.summary import SceneSummary
from .content import content_sha256, file_sha256
from .footprint import footprint_of
from .record import (
    MAP_NAME,
    SceneRecord,
    failed,
    named_after,
    read_record,
    scene_folder,
    write_record,
)
from .scene import ArchiveScene


@dataclass(frozen=True)
class ArchiveOptions:
    """What all workers of a run share.

    Attributes:
        folder: The archive's folder, absolute.
        bundle: Bundle folder, or the name of one in the package.
        backend: As for `Classifier`.
        stride: As for `esccs_edge.scenes.mapping.classify_scene`.
        dn_offset: As for `Classifier`.
        sar_unit: As for `Classifier`.
        precision: As for `Classifier`.
        digest: As for `Classifier`.
        device: As for `Classifier`.
        flavor: As for `Classifier`.
    """

    folder: Path
    bundle: str = "default"
    backend: str = "auto"
    stride: int | None = None
    dn_offset: float | None = None
    sar_unit: str | None = None
    precision: Precision = "auto"
    digest: str | None = None
    device: str | None = None
    flavor: FlavorChoice | None = None


class SceneWorker:
    """Classifies scenes one after the other; a context manager.

    Args:
        options: What all workers share.
        threads: CPU threads of the classifier; None for all.

    Raises:
        EsccsError: As `Classifier`.
    """

    def __init__(self, options: ArchiveOptions, *, threads: int | None = None) -> None:
        self._options = options
        self._classifier = Classifier(
            options.bundle,
            options.backend,
            threads=threads,
            dn_offset=options.dn_offset,
            sar_unit=options.sar_unit,
            precision=options.precision,
            digest=options.digest,
            device=options.device,
            flavor=options.flavor,
        )
        self._backend = self._classifier.backend_name

    def __enter__(self) -> SceneWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self._classifier.close()

    def __call__(self, scene: ArchiveScene) -> SceneRecord:
        """Classify a scene, or find its result again.

        Raises:
            BackendError: Nothing on this device can be trusted any more.
        """
        try:
            return self._record(scene)
        except BackendError as error:
            if error.action is Remedy.RESTART:
                raise
            return failed(scene, str(error))
        except (EsccsError, OSError) as error:
            return failed(scene, str(error))
        except Exception as error:  # a fault of ours in one scene must not cost the others
            return failed(scene, f"{type(error).__name__}: {error}")

    def _record(self, scene: ArchiveScene) -> SceneRecord:
        if scene.problem:
            raise InputError(scene.problem)
        started = time.perf_counter()
        hashes = self._hashes(scene)
        folder = scene_folder(self._options.folder, scene.id)
        earlier = read_record(folder)
        if earlier is not None and earlier.content_sha256 == hashes["content_sha256"]:
            return named_after(replace(earlier, is_earlier=True), scene)
        paths = {"optical": scene.optical, "sar": scene.sar}
        with open_scene(paths, self._classifier.manifest.modalities) as reader:
            footprint = footprint_of(reader.grid)
        class_map = folder / MAP_NAME
        with _folder(folder):
            summary = classify_scene(
                self._classifier,
                scene.optical,
                scene.sar,
                class_map,
                stride=self._options.stride,
                overwrite=True,
            )
        record = SceneRecord(
            scene.id,
            "done",
            **_counts(summary),
            **hashes,
            class_map=str(class_map.relative_to(self._options.folder)),
            scores=str(scores_path_of(class_map).relative_to(self._options.folder)),
            class_map_sha256=file_sha256(class_map),
            scores_sha256=file_sha256(scores_path_of(class_map)),
            backend=self._backend,
            footprint=footprint,
            seconds=time.perf_counter() - started,
        )
        record = named_after(record, scene)
        write_record(folder, record)
        return record

    def _hashes(self, scene: ArchiveScene) -> dict[str, Any]:
        parts = {
            "optical_sha256": _sha256(scene.optical),
            "sar_sha256": _sha256(scene.sar),
            "bundle_sha256": self._classifier.bundle.digest,
        }
        sar = self._classifier.manifest.modalities["sar"]
        options = {
            "stride": self._options.stride,
            "dn_offset": self._options.dn_offset,
            "sar_unit": sar.stored_unit or sar.unit,
        }
        if self._options.precision != "auto":  # else results of earlier versions still count
            options["precision"] = self._options.precision
        return {**parts, "content_sha256": content_sha256(**parts, **options)}


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder; it goes again if nothing was put into it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def _sha256(path: Path | None) -> str | None:
    return None if path is None else file_sha256(regular_file(path))


def _counts(summary: SceneSummary) -> dict[str, Any]:
    """Return the fields of a summary that a record has too, but for those it fills itself."""
    own = {"class_map", "scores", "seconds"}
    return {name: value for name, value in summary.to_dict().items() if name not in own}
