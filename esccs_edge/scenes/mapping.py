"""Whole scenes: two rasters in, a class map with scores out, in bounded memory.

The scene is cut into overlapping patches, the classifier streams through them, and probabilities
are blended per pixel. Only a few rows of pixels are in memory at any time.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec
from ..contracts.values import NODATA_LABEL, PatchPair, Prediction
from ..errors import BackendError, EsccsError, InputError
from ..rasters.reader import SceneReader, open_scene
from .blending import Blender
from .map_writer import NODATA, MapWriter, open_map, require_free_target, scores_path_of
from .summary import SceneSummary, Tally
from .tiling import Tiling

#: Columns of pixels read at once; bounds memory for wide scenes.
COLUMNS_AT_ONCE = 8192

PathLike = str | os.PathLike[str]
Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]
Patch = tuple[Pixels | None, Pixels | None]
Progress = Callable[[int, int], None]


class PatchClassifier(Protocol):
    """What mapping needs of `esccs_edge.Classifier`."""

    @property
    def manifest(self) -> Manifest:
        """Contract of the model."""

    def stream(self, pairs: Iterable[Patch]) -> Iterator[Prediction | EsccsError]:
        """Judge pairs in order, copying what it keeps; a bad pair's place holds its error."""


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
        out_path: Class map to write, ``map.tif``; the scores become ``map.scores.tif``. Their
            formats stand at `esccs_edge.scenes.map_writer.open_map`.
        stride: Pixels from one patch to the next, at most the patch size; half of it by default.
        overwrite: Replace existing files.
        progress: Called with (patches done, patches in all).

    A pixel has no answer where neither modality is valid there, or where the model refused every
    patch around it. A scene smaller than a patch is padded with absent pixels.

    Raises:
        InputError: No input, a wrong stride, an output that is also an input, or every patch was
            refused (then the first refusal is raised).
        RasterError: An input cannot be read or the two do not match; the output exists or cannot
            be written. Files of these names are then what they were before.
        EsccsError: The classifier failed.
    """
    started = time.perf_counter()
    manifest = classifier.manifest
    stride = _checked_stride(stride, manifest)
    sources = [path for path in (optical_path, sar_path) if path is not None]
    require_free_target(out_path, sources, overwrite=overwrite)
    with open_scene(optical_path, sar_path, manifest) as scene:
        grid = scene.grid
        tiling = Tiling.of(grid.height, grid.width, manifest.sample.height, stride)
        tags = {"MODEL": manifest.name, "TASK": manifest.task}
        with open_map(out_path, grid, manifest.classes, tags) as writer:
            run = _SceneRun(tiling, manifest, writer)
            patches = run.patches(scene)
            with closing(_generator(classifier.stream(patches))) as answers:
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
        mean_gate_optical=run.tally.mean_gate_optical,
        nodata_share=1 - run.tally.answered / (grid.height * grid.width),
        seconds=time.perf_counter() - started,
    )


def valid_pixels(pair: PatchPair, manifest: Manifest) -> Mask:
    """Return ``(H, W)``: True where a modality has a valid pixel by the manifest's rule."""
    first, *others = [
        _valid(pixels, spec)
        for pixels, spec in (
            (pair.optical, manifest.modalities["optical"]),
            (pair.sar, manifest.modalities["sar"]),
        )
        if pixels is not None
    ]
    for other in others:
        first |= other
    return first


def _valid(pixels: Pixels, spec: ModalitySpec) -> Mask:
    valid = np.ones(pixels.shape[1:], bool)
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
    if spec.nodata is not None:
        valid &= ~(pixels == spec.nodata).all(axis=0)
    return valid


def _checked_stride(stride: int | None, manifest: Manifest) -> int:
    if len(manifest.classes) > NODATA:
        raise InputError(f"the model has {len(manifest.classes)} classes, a map holds {NODATA}")
    if stride is None:
        return max(manifest.sample.height // 2, 1)
    if not 1 <= stride <= manifest.sample.height:
        raise InputError(
            f"stride is {stride}, expected 1 to {manifest.sample.height} (the patch size)"
        )
    return stride


def _generator(
    answers: Iterator[Prediction | EsccsError],
) -> Generator[Prediction | EsccsError, None, None]:
    """Give a stream a ``close``, so that an error here ends it before the files close."""
    yield from answers


class _SceneRun:
    """One run: patches go out, answers come back, finished rows of pixels are written."""

    def __init__(self, tiling: Tiling, manifest: Manifest, writer: MapWriter) -> None:
        self.tally = Tally(manifest.classes)
        self.refused = 0
        self._tiling = tiling
        self._manifest = manifest
        self._writer = writer
        self._blender = Blender(tiling, len(manifest.classes) + 1)
        # One mask per row of patches that was read and not yet written. The stream may read a
        # little ahead of the answers, possibly in another thread; a deque allows that.
        self._valid: deque[Mask] = deque()

    def patches(self, scene: SceneReader) -> Iterator[Patch]:
        """Read the scene and yield its patches, row by row of patches."""
        tiling, size = self._tiling, self._tiling.patch_size
        for i, row in enumerate(tiling.rows):
            valid = np.zeros((len(tiling.finished_rows(i)), tiling.width), bool)
            self._valid.append(valid)
            for columns in _chunks(tiling.columns):
                first, last = columns[0], columns[-1] + size
                pair = scene.read(row, first, size, last - first)
                here = valid_pixels(pair, self._manifest)
                valid[:, first:last] = here[: len(valid), : tiling.width - first]
                for column in columns:
                    cut = slice(column - first, column - first + size)
                    yield _cut(pair.optical, cut), _cut(pair.sar, cut)

    def map_answers(
        self, answers: Iterable[Prediction | EsccsError], progress: Progress | None
    ) -> None:
        """Blend and write answers as they come.

        Raises:
            EsccsError: The classifier failed, or refused every patch.
        """
        in_a_row = len(self._tiling.columns)
        values = np.zeros((in_a_row, len(self._manifest.classes) + 1), np.float32)
        is_judged = np.zeros(in_a_row, bool)
        first_refusal, done = None, 0
        for answer in answers:
            i, k = divmod(done, in_a_row)
            is_judged[k] = self._take(answer, values[k])
            if isinstance(answer, InputError):
                first_refusal = first_refusal or answer
            done += 1
            if k == in_a_row - 1:
                self._blender.add_row(i, values, is_judged)
                self._write_finished(i)
            if progress is not None:
                progress(done, self._tiling.patches)
        if done != self._tiling.patches:
            raise BackendError(f"{done} answers came for {self._tiling.patches} patches")
        if first_refusal is not None and self.tally.answered == 0:
            raise first_refusal

    def _take(self, answer: Prediction | EsccsError, values: Float) -> bool:
        """Store an answer's numbers; returns False where there is none."""
        if isinstance(answer, InputError):
            self.refused += 1
            return False
        if isinstance(answer, EsccsError):
            raise answer
        if answer.label == NODATA_LABEL:
            return False
        values[:-1] = [answer.probabilities[name] for name in self._manifest.classes]
        values[-1] = answer.gate.optical
        return True

    def _write_finished(self, i: int) -> None:
        valid = self._valid.popleft()
        start = self._tiling.rows[i]
        for first, layers in self._blender.finished(i):
            answered = valid[first - start : first - start + layers.shape[1]]
            answered = answered & np.isfinite(layers[-1])
            probabilities, gate_optical = layers[:-1], layers[-1][answered]
            winners = probabilities.argmax(axis=0)[answered]
            confidence = probabilities.max(axis=0)[answered]
            self.tally.add(winners, confidence, gate_optical)
            self._writer.write_rows(
                first,
                _placed(winners, answered),
                _placed(np.rint(confidence * 100), answered),
                _placed(np.rint(gate_optical * 100), answered),
            )


def _chunks(columns: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Split a row of patches into groups that are read at once."""
    start = 0
    for end in range(1, len(columns) + 1):
        if end == len(columns) or columns[end] - columns[start] >= COLUMNS_AT_ONCE:
            yield columns[start:end]
            start = end


def _cut(pixels: Pixels | None, columns: slice) -> Pixels | None:
    return None if pixels is None else pixels[:, :, columns]


def _placed(values: npt.NDArray[Any], answered: Mask) -> npt.NDArray[np.uint8]:
    """Put values back at their pixels, with nodata elsewhere."""
    rows = np.full(answered.shape, NODATA, np.uint8)
    rows[answered] = values
    return rows
