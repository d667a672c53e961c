"""Writes a class map and its scores as Cloud Optimized GeoTIFFs that appear whole or not at all.

Rows come from top to bottom into plain working files; the COG driver needs a finished raster to
build overviews from, so the final files are made at the end and only then take their names.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..contracts.types import Bytes, PathLike
from ..contracts.values import NODATA
from ..errors import InputError, RasterError
from ..rasters.gdal import Window, gdal_errors, rasterio, without_georeference
from ..rasters.grid import Grid
from ..system.atomic import atomic_path, sync_folder
from ..system.path_text import path_text
from ..system.working_folder import working_folder
from .palette import class_colors

#: One row of COG blocks.
_ROWS_READ_BACK = 512
_WRITE_HINT = "Check free space and permissions; nothing was replaced"
#: The first band of the scores; one per layer of the task follows.
CONFIDENCE = "confidence"
#: Tag that is the same in a class map and its scores.
PAIR = "PAIR"


def scores_path_of(class_map: PathLike) -> Path:
    """Return where the scores of a class map lie: ``map.tif`` -> ``map.scores.tif``."""
    path = Path(class_map)
    return path.with_name(f"{path.stem}.scores.tif")


def require_free_target(
    class_map: PathLike, sources: Sequence[PathLike], *, overwrite: bool
) -> None:
    """Refuse a map that cannot or must not be written, before any work is spent on it.

    Raises:
        InputError: Not a ``.tif`` name, or one of the inputs.
        RasterError: The folder is missing, or a file is there and ``overwrite`` is False.
    """
    target = Path(class_map)
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"output is {target.name!r}, expected a name ending in .tif")
    if not target.parent.is_dir():
        raise RasterError(
            f"output folder {target.parent} does not exist", hint="Make it first, or choose another"
        )
    for path in (target, scores_path_of(target)):
        require_no_input(path, sources)
        if path.is_dir() or (path.exists() and not overwrite):
            raise RasterError(
                f"output {path} already exists", hint="Pass `overwrite=True` to replace it"
            )


def require_no_input(path: PathLike, sources: Sequence[PathLike]) -> None:
    """Refuse an output that would replace an input, or lie in the folder of one.

    Raises:
        InputError: It would.
    """
    target = Path(path).resolve()
    for source in map(Path, sources):
        given = source.resolve()
        if given == target:
            raise InputError(
                f"output {path} is also an input", hint="Choose another name; inputs are kept"
            )
        if given in target.parents:
            raise InputError(
                f"output {path} lies in {source}, which is an input, expected another folder",
                hint="Inputs are kept as they are, so that they can be read again",
            )


class MapWriter:
    """Takes finished rows of pixels, from top to bottom."""

    def __init__(self, classes: Any, scores: Any) -> None:
        self._files = (classes, scores)
        self.checksums = [0], [0] * scores.count

    def write_rows(self, row: int, classes: Bytes, scores: Bytes) -> None:
        """Write rows of pixels, with `NODATA` where unjudged.

        Args:
            row: First pixel row.
            classes: ``(rows, width)`` positions in the class list.
            scores: ``(layers, rows, width)`` percent: the confidence, then each layer of the task.
        """
        window = Window(0, row, classes.shape[1], classes.shape[0])
        bands = (classes[None], scores)
        with _write_errors(self._files[0].name):
            for file, rows, checksums in zip(self._files, bands, self.checksums, strict=True):
                file.write(rows, window=window)
                _add_rows(checksums, rows)


@contextmanager
def open_map(
    class_map: PathLike,
    grid: Grid,
    classes: Sequence[str],
    layers: Sequence[str],
    tags: Mapping[str, str],
    *,
    overwrite: bool = False,
) -> Iterator[MapWriter]:
    """Write a class map and its scores; both get their names when the block ends well.

    The class map is one uint8 band: positions in ``classes``, 255 where there is no answer, a
    color table, and the class names as JSON in the tag ``CLASSES``. The scores beside it are uint8
    bands, the confidence and each of ``layers``, in percent (scale tag 0.01), 255 where there is no
    answer. Both carry checksums of both in the tag `PAIR`: two files whose tags differ are not of
    one run, and `esccs_edge.scenes.map_reader.require_pair` refuses them.

    After an error, files of these names are what they were before. When the process dies, each is
    what it was before or what it was to be.

    Args:
        class_map: The map.
        grid: Of the scene.
        classes: Class names.
        layers: Score layers of the task.
        tags: Written into both.
        overwrite: Replace existing files; without it, files that appeared meanwhile are kept.

    Raises:
        RasterError: The files cannot be written, for example because the disk is full; or they
            appeared meanwhile and must not be replaced.
    """
    target = Path(class_map)
    with ExitStack() as outer:
        with _write_errors(target):
            folder = outer.enter_context(working_folder(target))
        with ExitStack() as stack:
            with _write_errors(target), _quiet(grid):
                bands = (CONFIDENCE, *layers)
                maps = stack.enter_context(_working_file(folder / "classes.tif", grid, 1))
                scores = stack.enter_context(_working_file(folder / "scores.tif", grid, len(bands)))
                _describe_classes(maps, classes, tags)
                _describe_scores(scores, bands, tags)
            writer = MapWriter(maps, scores)
            yield writer
            with _write_errors(target):
                for file in (maps, scores):
                    file.update_tags(**{PAIR: pair_tag(writer.checksums)})
                stack.close()
        with _write_errors(target), _quiet(grid):
            finished = _finish(folder, "classes", "MODE"), _finish(folder, "scores", "AVERAGE")
            for path, checksums in zip(finished, writer.checksums, strict=True):
                _require_intact(path, checksums, target)
            # The map comes last, so that where there is a map there are its scores.
            _move(finished[1], scores_path_of(target), overwrite)
            _move(finished[0], target, overwrite)


def _working_file(path: Path, grid: Grid, bands: int) -> Any:
    return rasterio.open(
        path_text(path),
        "w",
        driver="GTiff",
        height=grid.height,
        width=grid.width,
        count=bands,
        dtype="uint8",
        crs=grid.crs,
        transform=grid.transform if grid.is_georeferenced else None,
        nodata=NODATA,
        compress="deflate",
        zlevel=1,  # it is read once and thrown away
        interleave="band",
        bigtiff="if_safer",
    )


def _describe_classes(dataset: Any, classes: Sequence[str], tags: Mapping[str, str]) -> None:
    dataset.set_band_description(1, "class")
    dataset.update_tags(**tags, CLASSES=json.dumps(list(classes), ensure_ascii=False))
    colors: dict[int, tuple[int, int, int, int]] = {
        i: (*color, 255) for i, color in enumerate(class_colors(classes))
    }
    dataset.write_colormap(1, colors | {NODATA: (0, 0, 0, 0)})


def _describe_scores(dataset: Any, bands: Sequence[str], tags: Mapping[str, str]) -> None:
    for band, name in enumerate(bands, start=1):
        dataset.set_band_description(band, name)
    dataset.scales = (0.01,) * len(bands)
    dataset.update_tags(**tags)


def _finish(folder: Path, stem: str, overviews: str) -> Path:
    """Turn a working file into a COG."""
    working, finished = folder / f"{stem}.tif", folder / f"{stem}.cog.tif"
    rasterio.shutil.copy(
        path_text(working), path_text(finished), driver="COG", compress="DEFLATE",
        bigtiff="IF_SAFER", overview_resampling=overviews, overview_compress="DEFLATE",
        num_threads="ALL_CPUS",
    )  # fmt: skip
    working.unlink()
    return finished


def _require_intact(finished: Path, checksums: list[int], target: Path) -> None:
    """Read a finished file back and compare it with what was written.

    GDAL writes late and may only log that the disk is full; the lost part then reads as nodata.
    """
    found = [0] * len(checksums)
    with rasterio.open(path_text(finished), driver="GTiff") as dataset:
        for row in range(0, dataset.height, _ROWS_READ_BACK):
            rows = min(_ROWS_READ_BACK, dataset.height - row)
            _add_rows(found, dataset.read(window=Window(0, row, dataset.width, rows)))
    if found != checksums:
        raise RasterError(
            f"cannot write {target.name}: what was written does not read back",
            hint=_WRITE_HINT,
        )


def _add_rows(checksums: list[int], rows: Bytes) -> None:
    """Extend the checksum of each band by rows of pixels; how they are grouped is irrelevant."""
    for i, band in enumerate(rows):
        checksums[i] = zlib.crc32(band.tobytes(), checksums[i])


def _move(finished: Path, target: Path, overwrite: bool) -> None:
    if not overwrite:  # the name is taken only if it is still free: two processes may map at once
        try:
            _take_name(finished, target)
            return
        except FileExistsError:
            raise RasterError(
                f"output {target} was written by another process meanwhile",
                hint="Pass `overwrite=True` to replace it",
            ) from None
    with atomic_path(target) as partial:
        os.replace(finished, partial)


def _take_name(finished: Path, target: Path) -> None:
    with open(finished, "rb") as stream:
        os.fsync(stream.fileno())
    try:
        os.link(finished, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links; there two processes at once are not told
        if target.exists():
            raise FileExistsError(str(target)) from None
        os.replace(finished, target)
    sync_folder(target.parent)


def pair_tag(checksums: Sequence[Sequence[int]]) -> str:
    """Return what a map and its scores of one run share: the checksums of their bands."""
    return "-".join(f"{checksum:08x}" for file in checksums for checksum in file)


def _write_errors(target: PathLike) -> AbstractContextManager[None]:
    what = f"cannot write {Path(target).name}"
    return gdal_errors(what, hint=_WRITE_HINT, also=(UnicodeError,))


def _quiet(grid: Grid) -> AbstractContextManager[None]:
    """Allow a map without coordinates where the inputs have none."""
    return nullcontext() if grid.is_georeferenced else without_georeference()
