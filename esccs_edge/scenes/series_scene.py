"""Dated rasters of one grid, read window by window as series in the slots of a model's calendar."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.manifest import Manifest
from ..contracts.modality import modality_title
from ..contracts.types import Array
from ..errors import InputError, RasterError
from ..rasters.dated_files import DatedFile
from ..rasters.grid import Grid, require_same_grid
from ..rasters.pixel_size import require_pixel_size
from ..rasters.raster_file import MAX_SCENE_BYTES, RasterFile, absent_value, open_raster
from ..rasters.reader import padded_window

#: Rows read at once where a sample is one pixel high: compressed blocks are decoded less often.
ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class SeenImage:
    """How much one image of a series shows.

    Attributes:
        file: The image.
        slot: Its place in the series.
        share: Share of its pixels that are valid.
    """

    file: DatedFile
    slot: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "sensor": self.file.sensor,
            "date": str(self.file.date),
            "slot": self.slot,
            "valid_share": self.share,
            "file": str(self.file.path),
        }


@dataclass
class _Image:
    """An open raster and its valid pixels so far."""

    file: DatedFile
    slot: int
    raster: RasterFile
    valid: int = 0


def slots_of(files: Sequence[DatedFile], manifest: Manifest) -> list[int]:
    """Return the place of each image in the series of its sensor.

    Args:
        files: As `esccs_edge.rasters.dated_files.dated_files` returns them.
        manifest: Contract of the model. Without a calendar, each sensor needs all its dates.

    Raises:
        InputError: A date is out of the season that the earliest image begins; or there is no
            calendar and a sensor has more or fewer images than the model reads.
    """
    sample = manifest.sample
    assert sample.dates is not None  # the task has checked it
    slots: list[int] = []
    first = min(file.date for file in files)
    for sensor in manifest.modalities:
        days = [file.date for file in files if file.sensor == sensor]
        if sample.calendar is not None and days:
            slots += sample.calendar.slots(days, sample.calendar.season(first)).tolist()
        elif len(days) in (0, sample.dates):
            slots += range(len(days))
        else:
            raise InputError(
                f"there are {len(days)} {modality_title(sensor)} images, expected "
                f"{sample.dates}: the bundle has no calendar that tells which are missing",
                hint="Give an image for each date of its training, without pixels where missing",
            )
    return slots


class SeriesScene:
    """The images of a scene, all on one grid. Calls from several threads are served in turn.

    Attributes:
        grid: The common pixel grid.
    """

    def __init__(self, images: Sequence[_Image], manifest: Manifest) -> None:
        self.grid: Grid = images[0].raster.grid
        self._images, self._manifest = images, manifest
        self._one_at_a_time = threading.Lock()
        # First row of each column whose pixels were not counted yet: windows overlap.
        self._counted = np.zeros(self.grid.width, np.int64)
        self._first = self.grid.height
        self._held: dict[int, tuple[int, dict[str, Array | None]]] = {}

    def read(self, row: int, column: int, height: int, width: int) -> dict[str, Array | None]:
        """Read a window of all dates, windows from top to bottom.

        Returns:
            Sensor -> ``(C, T, height, width)``, absent pixels in slots without an image and beyond
            the lower and right edges; None where the sensor has no image.

        Raises:
            RasterError: A file is damaged, or images of one sensor are stored in different types.
        """
        with self._one_at_a_time:
            if height > 1:
                return self._window(row, column, height, width)
            first, held = self._held.get(column, (-ROWS_AT_ONCE, {}))
            if not first <= row < first + ROWS_AT_ONCE:
                rows = min(ROWS_AT_ONCE, self.grid.height - row)
                first, held = self._held[column] = row, self._window(row, column, rows, width)
            place = slice(row - first, row - first + 1)
            return {n: None if one is None else one[:, :, place] for n, one in held.items()}

    def seen(self) -> list[SeenImage]:
        """Return how much each image shows, once all windows were read.

        Rows above the first window, which a run that goes on does not map again, are read here.
        """
        for row in range(0, self._first, ROWS_AT_ONCE):
            rows = min(ROWS_AT_ONCE, self._first - row)
            for image in self._images:
                spec = self._manifest.modalities[image.file.sensor]
                pixels = padded_window(image.raster, spec, row, 0, rows, self.grid.width)
                image.valid += int(np.count_nonzero(spec.valid_mask(pixels)))
        self._first = 0
        size = self.grid.height * self.grid.width
        return [SeenImage(one.file, one.slot, one.valid / size) for one in self._images]

    def _window(self, row: int, column: int, height: int, width: int) -> dict[str, Array | None]:
        found: dict[str, Array | None] = dict.fromkeys(self._manifest.modalities)
        self._first = min(self._first, row)
        columns = slice(column, column + width)
        is_new = np.arange(row, row + height)[:, None] >= self._counted[columns]
        is_new = is_new[: self.grid.height - row]
        for image in self._images:  # of two in one slot the later one wins where it is valid
            spec = self._manifest.modalities[image.file.sensor]
            pixels = padded_window(image.raster, spec, row, column, height, width)
            series = found[image.file.sensor]
            if series is None:
                absent = absent_value(pixels.dtype, spec, str(image.raster.path))
                shape = (len(pixels), self._manifest.sample.dates or 0, height, width)
                series = found[image.file.sensor] = np.full(shape, absent, pixels.dtype)
            if series.dtype != pixels.dtype:
                raise RasterError(
                    f"{image.raster.path} is read as {pixels.dtype}, earlier images as "
                    f"{series.dtype}, expected one type for all dates",
                    hint="Store all images of a sensor alike: digital numbers, or reflectance",
                )
            valid = spec.valid_mask(pixels)
            inside = valid[: len(is_new), : is_new.shape[1]]
            image.valid += int(np.count_nonzero(inside & is_new))
            series[:, image.slot] = np.where(valid, pixels, series[:, image.slot])
        self._counted[columns] = np.maximum(self._counted[columns], row + height)
        return found


@contextmanager
def open_series(files: Sequence[DatedFile], manifest: Manifest) -> Iterator[SeriesScene]:
    """Open the images of a series; closed on leaving.

    Args:
        files: As `esccs_edge.rasters.dated_files.dated_files` returns them.
        manifest: Contract of the model.

    Raises:
        InputError: As `slots_of`.
        RasterError: A file cannot be opened, its bands or pixels do not fit, or two do not lie on
            the same grid.
    """
    slots = slots_of(files, manifest)
    with ExitStack() as stack:
        images: list[_Image] = []
        for file, slot in zip(files, slots, strict=True):
            spec = manifest.modalities[file.sensor]
            raster = stack.enter_context(open_raster(file.path, spec, max_bytes=MAX_SCENE_BYTES))
            if images:
                names = (files[0].path.name, file.path.name)
                require_same_grid(images[0].raster.grid, raster.grid, names)
            require_pixel_size(raster.grid, manifest.sample.pixel_size_m, file.path.name)
            images.append(_Image(file, slot, raster))
        yield SeriesScene(images, manifest)
