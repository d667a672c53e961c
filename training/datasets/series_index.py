"""An ``index.csv`` of image series with a label raster each: one's own files.

One line per series: ``series,target,group,split``, paths relative to the file. A series is a folder
of dated rasters or an index of them, as ``esccs-edge map`` takes it
(`esccs_edge.rasters.dated_files`); all its images and its target lie on one grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.calendar import Calendar, Days, dekads, months
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.types import Array
from esccs_edge.contracts.values import NODATA
from esccs_edge.errors import InputError
from esccs_edge.pixels.series import in_slots
from esccs_edge.rasters.dated_files import DatedFile, dated_files, index_rows
from esccs_edge.rasters.grid import Grid, require_same_grid
from esccs_edge.rasters.label_map import read_label_map
from esccs_edge.rasters.raster_file import open_raster

from .index import file_channels, reading_spec, require_disjoint
from .series import UNKNOWN

COLUMNS = ("series", "target", "group", "split")
SENSORS = ("optical", "sar")
SPLITS = ("train", "val", "test")
MAX_INDEX_BYTES = 1 << 26


@dataclass(frozen=True)
class _Row:
    """One line: the images by sensor and date, the label raster, and where it belongs."""

    files: list[DatedFile]
    target: Path
    group: str
    split: str

    @property
    def days(self) -> Days:
        return np.array([file.date for file in self.files], "datetime64[D]")


class SeriesIndex:
    """One's own image series as a `SeriesDataset`, read when asked for."""

    contracts: Mapping[str, ModalitySpec] = {}
    simulated: tuple[str, ...] = ()

    def __init__(self, path: Path, rows: Sequence[_Row], classes: Sequence[str], step: str) -> None:
        require_disjoint((row.group for row in rows), (row.split for row in rows))
        self.name, self.classes, self._rows = path.parent.name or "index", tuple(classes), rows
        self.groups = tuple(row.group for row in rows)
        self.splits = tuple(row.split for row in rows)
        self.calendar: Calendar = calendar_of([row.days for row in rows], step)
        self._specs = {}
        for sensor in SENSORS:
            paths = [file.path for row in rows for file in row.files if file.sensor == sensor]
            if paths:
                self._specs[sensor] = reading_spec(file_channels(paths, is_sar=sensor == "sar"))
        self.channels = {name: spec.channels for name, spec in self._specs.items()}
        self.size = (len(self.calendar.starts), *read_label_map(rows[0].target).shape)

    def __len__(self) -> int:
        return len(self._rows)

    def series(self, index: int) -> Mapping[str, Array]:
        """Read the images of a series, a sensor without an image as absent.

        Raises:
            InputError: Its images are not of the size of the first label raster.
            RasterError: A file cannot be read, or two do not lie on one grid.
        """
        row = self._rows[index]
        season = self.calendar.season(row.days.min())
        found: dict[str, Array] = {}
        first: tuple[Grid, Path] | None = None
        for sensor, spec in self._specs.items():
            files = [file for file in row.files if file.sensor == sensor]
            images = []
            for file in files:
                with open_raster(file.path, spec) as raster:
                    first = first or (raster.grid, file.path)
                    require_same_grid(first[0], raster.grid, (first[1].name, file.path.name))
                    images.append(raster.read())
            if not images:
                shape = (len(spec.channels), *self.size)
                found[sensor] = np.full(shape, np.nan, np.float32)
                continue
            if len({image.dtype for image in images}) > 1 or images[0].shape[1:] != self.size[1:]:
                kinds = sorted({f"{image.dtype} {image.shape[1:]}" for image in images})
                raise InputError(
                    f"{files[0].path.parent} has {sensor} images of {', '.join(kinds)}, expected "
                    f"one type and {self.size[1:]} pixels"
                )
            days = [file.date for file in files]
            slots = self.calendar.slots(days, season).tolist()
            found[sensor] = in_slots(np.stack(images, axis=1), slots, self.size[0], spec.nodata)
        return found

    def target(self, index: int) -> npt.NDArray[np.int64]:
        """Read the class of each pixel.

        Raises:
            InputError: A number beyond the classes, or another size.
            RasterError: The file cannot be read.
        """
        path = self._rows[index].target
        labels = np.asarray(read_label_map(path, self._rows[index].files[0].path), np.int64)
        labels[labels == NODATA] = UNKNOWN
        if labels.shape != self.size[1:] or labels.max() >= len(self.classes):
            raise InputError(
                f"{path} is {labels.shape} with classes up to {labels.max()}, expected "
                f"{self.size[1:]} and at most {len(self.classes) - 1}",
                hint="Numbers are positions in the class list; mark other pixels as nodata",
            )
        return labels


def open_series_index(where: str | Path, classes: Sequence[str], step: str) -> SeriesIndex:
    """Open an index of image series.

    Args:
        where: The ``.csv`` file.
        classes: Class names in the order of the numbers in the label rasters.
        step: Slots of the calendar, ``"month"`` or ``"dekad"`` (a third of a month).

    Raises:
        InputError: The file is malformed, names what does not exist, or a group stands in two
            splits; or a series is no folder of dated rasters.
        RasterError: The first file of a sensor or the first label raster cannot be read.
    """
    path = Path(where)
    if not classes:
        raise InputError(
            f"{path} has label rasters, but no class names are given",
            hint='Name them in the options: [series] classes = ["other", "maize"]',
        )
    rows = []
    for number, line in enumerate(index_rows(path, MAX_INDEX_BYTES), start=2):
        cells = [line.get(name) or "" for name in COLUMNS]
        if None in line or not all(cells) or cells[3] not in SPLITS:
            raise InputError(
                f"{path}, line {number} is {', '.join(cells)!r}, expected {', '.join(COLUMNS)}, "
                f"the last one of {', '.join(SPLITS)}"
            )
        target = path.parent / cells[1]
        if not target.is_file():
            raise InputError(f"{path}, line {number} names {target}, which does not exist")
        files = dated_files(path.parent / cells[0], SENSORS)
        rows.append(_Row(files, target, cells[2], cells[3]))
    if not rows:
        raise InputError(f"{path} names no series, expected the columns {', '.join(COLUMNS)}")
    return SeriesIndex(path, rows, classes, step)


def calendar_of(series: Sequence[Days], step: str) -> Calendar:
    """Return the shortest calendar of whole months that holds every series in one season.

    Raises:
        InputError: A series is longer than a year.
    """
    best: tuple[int, int] | None = None
    for first in range(1, 13):
        start = months(first, 1)
        lengths = []
        for days in series:
            begin = start.season(days.min())[0].astype("datetime64[M]")
            last = days.max().astype("datetime64[M]")
            lengths.append(int((last - begin).astype(int)) + 1)
        best = min(best or (max(lengths), first), (max(lengths), first))
    assert best is not None
    count, first = best
    if count > 12:
        raise InputError(
            f"the series span {count} months, expected at most 12: one season",
            hint="Make a series of each season",
        )
    return dekads(first, 3 * count) if step == "dekad" else months(first, count)
