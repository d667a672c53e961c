"""One run over an open scene: patches go out, answers come back, finished rows are written.

Three hands work at once: one reads the next group of patches, one lets the model answer a group,
and this one blends what was answered before.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import valid_pixels
from ..contracts.task import Task
from ..contracts.tasks import task_named
from ..contracts.types import Array, Floats, Mask, PathLike, Progress
from ..contracts.values import NODATA
from ..errors import BackendError, EsccsError, InputError
from ..rasters.grid import Grid
from .blending import Blender, winning
from .finished_rows import FinishedRow, FinishedRows
from .map_writer import MapWriter, open_map, scores_path_of
from .summary import SceneSummary, Tally
from .tiling import Tiling

#: Columns of pixels read at once, of all dates; bounds memory for wide scenes.
COLUMNS_AT_ONCE = 8192

#: Shares in low precision may leave [0, 1] by this much.
SHARE_ATOL = 1e-2

#: Modality name -> ``(C, H, W)``, ``(C, T, H, W)`` of a series, or None where it is absent.
RawPatch = Mapping[str, Array | None]


class Scene(Protocol):
    """What mapping reads, such as `esccs_edge.rasters.reader.SceneReader`."""

    @property
    def grid(self) -> Grid:
        """The pixel grid."""

    def read(self, row: int, column: int, height: int, width: int) -> RawPatch:
        """Read a window; the part beyond the lower and right edges is absent pixels."""


class PatchModel(Protocol):
    """What mapping needs of a model, such as `esccs_edge.runtime.model.ModelRuntime`."""

    @property
    def manifest(self) -> Manifest:
        """Contract of the model."""

    def stream(self, samples: Iterable[RawPatch]) -> Iterator[Any]:
        """Answer samples in order, copying what it keeps; a refused one yields its error."""


def write_map(
    model: PatchModel,
    scene: Scene,
    tiling: Tiling,
    out_path: PathLike,
    *,
    rows: FinishedRows | None,
    overwrite: bool,
    progress: Progress | None,
    started_s: float,
) -> SceneSummary:
    """Map an open scene; arguments and errors are those of `map_scene`."""
    manifest = model.manifest
    task, grid = task_named(manifest.task), scene.grid
    tags = {"MODEL": manifest.name, "TASK": manifest.task}
    bands = (*task.map_layers(manifest), *(mask.name for mask in task.map_masks(manifest)))
    opened = open_map(out_path, grid, manifest.classes, bands, tags, overwrite=overwrite)
    with opened as writer:
        run = _SceneRun(tiling, manifest, task, writer, rows)
        with closing(_answers(model, run.patches(scene))) as answers:
            run.map_answers(answers, progress)
    return SceneSummary(
        class_map=Path(out_path),
        scores=scores_path_of(out_path),
        height=grid.height,
        width=grid.width,
        patches=tiling.patches,
        refused_patches=run.refused,
        flagged_patches=run.tally.flagged,
        class_shares=run.tally.shares(),
        mean_confidence=run.tally.mean_confidence,
        mean_layers=run.tally.mean_layers,
        nodata_share=1 - run.tally.answered / (grid.height * grid.width),
        seconds=time.perf_counter() - started_s,
    )


def _answers(model: PatchModel, groups: Iterator[list[RawPatch]]) -> Generator[Any, None, None]:
    """Yield the answers in order; closing ends all work before the files close.

    A model that takes batches gets the same ones in every run, since the last digit of an answer
    may depend on them: maps of one scene are then equal to the byte, resumed or not. While the
    caller works on the answers of one group, the next is answered and the one after it read.
    """
    run_batch = getattr(model, "run_batch", None)
    if run_batch is None:
        yield from model.stream(patch for group in groups for patch in group)
        return
    with (
        ThreadPoolExecutor(1, "esccs-read") as reader,
        ThreadPoolExecutor(1, "esccs-answer") as answerer,
    ):
        following = reader.submit(next, groups, None)
        under_way: Future[list[Any]] | None = None
        while (group := following.result()) is not None:
            following = reader.submit(next, groups, None)
            before, under_way = under_way, answerer.submit(run_batch, group)
            if before is not None:
                yield from before.result()
        if under_way is not None:
            yield from under_way.result()


class _SceneRun:
    """One run: patches go out, answers come back, finished rows of pixels are written."""

    def __init__(
        self,
        tiling: Tiling,
        manifest: Manifest,
        task: Task[Any],
        writer: MapWriter,
        kept: FinishedRows | None = None,
    ) -> None:
        layers, masks = task.map_layers(manifest), task.map_masks(manifest)
        self._masks = [(layers.index(mask.layer), np.float32(mask.below)) for mask in masks]
        self.tally = Tally(manifest.classes, (*layers, *(mask.name for mask in masks)))
        self.refused = 0
        self._tiling = tiling
        self._manifest = manifest
        self._task = task
        self._writer = writer
        self._blender = Blender(tiling, len(manifest.classes) + len(layers))
        # One mask per row of patches that was read and not yet written. The stream reads ahead of
        # the answers, possibly in another thread; appending to a deque is thread-safe.
        self._valid: deque[Mask] = deque()
        self._kept = kept
        # Rows of patches that are on disk, and the first that must be asked (again) for the others.
        self._before = self._written_before()
        self._start = tiling.first_touching(self._before)

    def patches(self, scene: Scene) -> Iterator[list[RawPatch]]:
        """Read the scene and yield its patches, in groups that are read at once."""
        tiling, size = self._tiling, self._tiling.patch_size
        at_once = COLUMNS_AT_ONCE // (self._manifest.sample.dates or 1)
        for i, row in list(enumerate(tiling.rows))[self._start :]:
            valid = np.zeros((len(tiling.finished_rows(i)), tiling.width), bool)
            self._valid.append(valid)
            for columns in _chunks(tiling.columns, max(at_once, size)):
                first, last = columns[0], columns[-1] + size
                part = scene.read(row, first, size, last - first)
                self._note_valid(part, valid[:, first:last])
                places = (column - first for column in columns)
                yield [_cut(part, slice(place, place + size)) for place in places]

    def _note_valid(self, part: RawPatch, valid: Mask) -> None:
        """Note where the first rows of a strip have a pixel, on any date."""
        height, width = valid.shape
        top = {name: None if x is None else x[..., :height, :width] for name, x in part.items()}
        found = valid_pixels(top, self._manifest.modalities)
        valid[:] = found.reshape(-1, height, width).any(axis=0)

    def map_answers(self, answers: Iterable[Any], progress: Progress | None) -> None:
        """Blend and write answers as they come.

        Raises:
            EsccsError: The model failed, or refused every patch.
        """
        in_a_row = len(self._tiling.columns)
        first_refusal, done = None, self._start * in_a_row
        for answer in answers:
            i, k = divmod(done, in_a_row)
            values = self._values(answer, is_new=i >= self._before)
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

    def _written_before(self) -> int:
        """Write the rows that an earlier run finished; return how many rows of patches they are."""
        count = 0
        for row in self._kept.read() if self._kept is not None else ():
            self._writer.write_rows(self._tiling.rows[count], row.classes, row.scores)
            self.tally.restore(row.tally)
            self.refused, count = row.refused, count + 1
        return count

    def _values(self, answer: Any, *, is_new: bool) -> Floats | None:
        """Return what to blend, or None where there is no answer."""
        if isinstance(answer, InputError):
            self.refused += is_new
            return None
        if isinstance(answer, EsccsError):
            raise answer
        if is_new:
            self.tally.note(getattr(answer, "flags", ()))
        values = self._task.map_values(answer, self._manifest)
        if values is not None and not (-SHARE_ATOL < values.min() <= values.max() < 1 + SHARE_ATOL):
            raise BackendError(
                f"values to map are {values.min():g} to {values.max():g}, expected 0 to 1",
                hint="Shares and probabilities can be mapped; see `esccs_edge.contracts.task.Task`",
            )
        return values

    def _write_finished(self, i: int) -> None:
        valid = self._valid.popleft()
        if i < self._before:  # asked again only because later rows blend with it
            return
        made = []
        start, classes = self._tiling.rows[i], len(self._manifest.classes)
        for first, values in self._blender.finished(i):
            answered = valid[first - start : first - start + values.shape[1]]
            answered = answered & np.isfinite(values[-1])
            winners, confidence = winning(values[:classes])
            layers = values[classes:]
            masks = [np.asarray(layers[m] < below, np.float32) for m, below in self._masks]
            shares = [confidence, *layers, *masks]
            self.tally.add(winners[answered], *(share[answered] for share in shares))
            rows = _at_pixels(winners, answered)
            scores = np.stack([_at_pixels(np.rint(share * 100), answered) for share in shares])
            self._writer.write_rows(first, rows, scores)
            made.append((rows, scores))
        if self._kept is not None:
            every_rows, every_scores = zip(*made, strict=True)
            self._kept.write(
                i,
                FinishedRow(
                    np.concatenate(every_rows),
                    np.concatenate(every_scores, axis=1),
                    self.tally.state,
                    self.refused,
                ),
            )


def _chunks(columns: tuple[int, ...], at_once: int) -> Iterator[tuple[int, ...]]:
    """Split a row of patches into groups that are read at once."""
    start = 0
    for end in range(1, len(columns) + 1):
        if end == len(columns) or columns[end] - columns[start] >= at_once:
            yield columns[start:end]
            start = end


def _cut(pixels: RawPatch, columns: slice) -> RawPatch:
    """Return one patch, in one piece: made by the thread that reads, it is not copied again."""
    return {
        name: None if image is None else np.ascontiguousarray(image[..., columns])
        for name, image in pixels.items()
    }


def _at_pixels(values: npt.NDArray[Any], answered: Mask) -> npt.NDArray[np.uint8]:
    """Return values as bytes, with nodata where there is no answer."""
    with np.errstate(invalid="ignore"):  # NaN, where nodata takes its place
        return np.where(answered, values.astype(np.uint8), np.uint8(NODATA))
