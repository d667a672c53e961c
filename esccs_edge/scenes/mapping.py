"""Whole scenes: rasters in, a class map with scores out, in bounded memory.

The scene is cut into overlapping patches, the model streams through them, and what its task wants
blended (probabilities and further score layers) is averaged per pixel. Only a few rows of pixels
are in memory at any time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from functools import reduce
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import Modalities
from ..contracts.task import Task
from ..contracts.tasks import task_named
from ..contracts.types import Array, Floats, Mask, PathLike, Progress
from ..contracts.values import Prediction
from ..errors import BackendError, EsccsError, InputError
from ..rasters.reader import SamplePaths, SceneReader, given_paths, open_scene
from .blending import Blender
from .map_writer import NODATA, MapWriter, open_map, require_free_target, scores_path_of
from .summary import SceneSummary, Tally
from .tiling import Tiling

#: Columns of pixels read at once; bounds memory for wide scenes.
COLUMNS_AT_ONCE = 8192

#: Shares in low precision may leave [0, 1] by this much.
SHARE_ATOL = 1e-2

#: Modality name -> ``(C, H, W)``, or None where the modality is absent.
RawPatch = Mapping[str, Array | None]


class PatchModel(Protocol):
    """What mapping needs of a model, such as `esccs_edge.runtime.model.ModelRuntime`."""

    @property
    def manifest(self) -> Manifest:
        """Contract of the model."""

    def stream(self, samples: Iterable[RawPatch]) -> Iterator[Any]:
        """Answer samples in order, copying what it keeps; a refused one yields its error."""


class PatchClassifier(Protocol):
    """What `classify_scene` needs of `esccs_edge.Classifier`."""

    @property
    def manifest(self) -> Manifest:
        """Contract of the model."""

    def stream(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[Prediction | EsccsError]:
        """Classify pairs in order, copying what it keeps; a refused one yields its error."""


def classify_scene(
    classifier: PatchClassifier,
    optical_path: PathLike | None,
    sar_path: PathLike | None,
    out_path: PathLike,
    *,
    stride: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SceneSummary:
    """Classify a scene into a Cloud Optimized GeoTIFF of classes, with scores beside it.

    Args:
        classifier: The model; see `PatchClassifier`.
        optical_path: GeoTIFF with the model's bands, or None.
        sar_path: GeoTIFF on the same grid with the model's polarizations, or None.
        out_path: As for `map_scene`, also what follows.
        stride: Likewise.
        overwrite: Likewise.
        progress: Likewise.

    Raises:
        EsccsError: As `map_scene`.
    """
    return map_scene(
        _PairModel(classifier),
        {"optical": optical_path, "sar": sar_path},
        out_path,
        stride=stride,
        overwrite=overwrite,
        progress=progress,
    )


def map_scene(
    model: PatchModel,
    paths: SamplePaths,
    out_path: PathLike,
    *,
    stride: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SceneSummary:
    """Map a scene with a model of any task; the map is a Cloud Optimized GeoTIFF of classes.

    Args:
        model: The model.
        paths: Modality name -> GeoTIFF with the model's channels, all on one grid.
        out_path: Class map to write, ``map.tif``; the scores become ``map.scores.tif``. Their
            formats stand at `esccs_edge.scenes.map_writer.open_map`.
        stride: Pixels from one patch to the next, at most the patch size; half of it by default.
        overwrite: Replace existing files.
        progress: Called with (patches done, patches in all).

    A pixel has no answer where no modality is valid there, or where the model refused every patch
    around it. A scene smaller than a patch is padded with absent pixels.

    Raises:
        InputError: No input, a wrong stride, a model that cannot map, an output that is also an
            input, or every patch was refused (then the first refusal is raised).
        RasterError: An input cannot be read or two do not match; the output exists or cannot be
            written. Files of these names are then what they were before.
        EsccsError: The model failed.
    """
    started_s = time.perf_counter()
    manifest = model.manifest
    size = _patch_size(manifest)
    stride = _checked_stride(stride, size)
    task = task_named(manifest.task)
    layers = task.map_layers(manifest)
    sources = list(given_paths(paths, manifest.modalities).values())
    require_free_target(out_path, sources, overwrite=overwrite)
    with open_scene(paths, manifest.modalities) as scene:
        grid = scene.grid
        tiling = Tiling.of(grid.height, grid.width, size, stride)
        tags = {"MODEL": manifest.name, "TASK": manifest.task}
        with open_map(out_path, grid, manifest.classes, layers, tags) as writer:
            run = _SceneRun(tiling, manifest, task, writer)
            patches = run.patches(scene)
            with closing(_generator(model.stream(patches))) as answers:
                run.map_answers(answers, progress)
    return SceneSummary(
        class_map=Path(out_path),
        scores=scores_path_of(out_path),
        height=grid.height,
        width=grid.width,
        patches=tiling.patches,
        refused_patches=run.refused,
        class_shares=run.tally.shares(),
        mean_confidence=run.tally.mean_confidence,
        mean_layers=run.tally.mean_layers,
        nodata_share=1 - run.tally.answered / (grid.height * grid.width),
        seconds=time.perf_counter() - started_s,
    )


def valid_pixels(pixels: RawPatch, modalities: Modalities) -> Mask:
    """Return ``(H, W)``: True where any modality has a valid pixel by the manifest's rule."""
    masks = [
        modalities[name].valid_mask(image) for name, image in pixels.items() if image is not None
    ]
    return reduce(np.logical_or, masks)


class _PairModel:
    """A classifier of pairs as a model of named modalities."""

    def __init__(self, classifier: PatchClassifier) -> None:
        self.manifest = classifier.manifest
        self._classifier = classifier

    def stream(self, samples: Iterable[RawPatch]) -> Iterator[Prediction | EsccsError]:
        return self._classifier.stream((patch["optical"], patch["sar"]) for patch in samples)


def _patch_size(manifest: Manifest) -> int:
    """Return the side of a patch; refuses models whose answers no map can hold."""
    sample = manifest.sample
    if len(manifest.classes) > NODATA:
        raise InputError(f"the model has {len(manifest.classes)} classes, a map holds {NODATA}")
    if sample.height != sample.width or sample.dates is not None:
        dates = "" if sample.dates is None else f" on {sample.dates} dates"
        raise InputError(
            f"the model reads samples of {sample.height} x {sample.width} pixels{dates}, expected "
            "square ones of a single date",
            hint="Only such models can map a scene",
        )
    return sample.height


def _checked_stride(stride: int | None, size: int) -> int:
    if stride is None:
        return max(size // 2, 1)
    if not 1 <= stride <= size:
        raise InputError(f"stride is {stride}, expected 1 to {size} (the patch size)")
    return stride


def _generator(answers: Iterator[Any]) -> Generator[Any, None, None]:
    """Give a stream a ``close``, so that an error here ends it before the files close."""
    yield from answers


class _SceneRun:
    """One run: patches go out, answers come back, finished rows of pixels are written."""

    def __init__(
        self, tiling: Tiling, manifest: Manifest, task: Task[Any], writer: MapWriter
    ) -> None:
        layers = task.map_layers(manifest)
        self.tally = Tally(manifest.classes, layers)
        self.refused = 0
        self._tiling = tiling
        self._manifest = manifest
        self._task = task
        self._writer = writer
        self._blender = Blender(tiling, len(manifest.classes) + len(layers))
        # One mask per row of patches that was read and not yet written. The stream reads ahead of
        # the answers, possibly in another thread; appending to a deque is thread-safe.
        self._valid: deque[Mask] = deque()

    def patches(self, scene: SceneReader) -> Iterator[RawPatch]:
        """Read the scene and yield its patches, row by row of patches."""
        tiling, size = self._tiling, self._tiling.patch_size
        for i, row in enumerate(tiling.rows):
            valid = np.zeros((len(tiling.finished_rows(i)), tiling.width), bool)
            self._valid.append(valid)
            for columns in _chunks(tiling.columns):
                first, last = columns[0], columns[-1] + size
                part = scene.read(row, first, size, last - first)
                read = valid_pixels(part, self._manifest.modalities)
                valid[:, first:last] = read[: len(valid), : tiling.width - first]
                for column in columns:
                    yield _cut(part, slice(column - first, column - first + size))

    def map_answers(self, answers: Iterable[Any], progress: Progress | None) -> None:
        """Blend and write answers as they come.

        Raises:
            EsccsError: The model failed, or refused every patch.
        """
        in_a_row = len(self._tiling.columns)
        first_refusal, done = None, 0
        for answer in answers:
            i, k = divmod(done, in_a_row)
            values = self._values(answer)
            if values is not None:
                self._blender.add(i, k, values)
            elif isinstance(answer, InputError):
                first_refusal = first_refusal or answer
            done += 1
            if k == in_a_row - 1:
                self._write_finished(i)
            if progress is not None:
                progress(done, self._tiling.patches)
        if done != self._tiling.patches:
            raise BackendError(f"{done} answers came for {self._tiling.patches} patches")
        if first_refusal is not None and self.tally.answered == 0:
            raise first_refusal

    def _values(self, answer: Any) -> Floats | None:
        """Return what to blend, or None where there is no answer."""
        if isinstance(answer, InputError):
            self.refused += 1
            return None
        if isinstance(answer, EsccsError):
            raise answer
        values = self._task.map_values(answer, self._manifest)
        if values is not None and not (-SHARE_ATOL < values.min() <= values.max() < 1 + SHARE_ATOL):
            raise BackendError(
                f"values to map are {values.min():g} to {values.max():g}, expected 0 to 1",
                hint="Shares and probabilities can be mapped; see `esccs_edge.contracts.task.Task`",
            )
        return values

    def _write_finished(self, i: int) -> None:
        valid = self._valid.popleft()
        start, classes = self._tiling.rows[i], len(self._manifest.classes)
        for first, values in self._blender.finished(i):
            answered = valid[first - start : first - start + values.shape[1]]
            answered = answered & np.isfinite(values[-1])
            probabilities, layers = values[:classes], values[classes:, answered]
            winners = probabilities.argmax(axis=0)[answered]
            confidence = probabilities.max(axis=0)[answered]
            self.tally.add(winners, confidence, list(layers))
            scores = [_at_pixels(np.rint(share * 100), answered) for share in (confidence, *layers)]
            self._writer.write_rows(first, _at_pixels(winners, answered), scores)


def _chunks(columns: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Split a row of patches into groups that are read at once."""
    start = 0
    for end in range(1, len(columns) + 1):
        if end == len(columns) or columns[end] - columns[start] >= COLUMNS_AT_ONCE:
            yield columns[start:end]
            start = end


def _cut(pixels: RawPatch, columns: slice) -> RawPatch:
    return {name: None if image is None else image[:, :, columns] for name, image in pixels.items()}


def _at_pixels(values: npt.NDArray[Any], answered: Mask) -> npt.NDArray[np.uint8]:
    """Put values back at their pixels, with nodata elsewhere."""
    rows = np.full(answered.shape, NODATA, np.uint8)
    rows[answered] = values
    return rows
