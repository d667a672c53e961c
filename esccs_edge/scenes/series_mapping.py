"""A folder of dated rasters -> a map of classes, and what each date showed of the scene."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ..contracts.types import PathLike, Progress
from ..errors import InputError
from ..rasters.dated_files import dated_files
from .finished_rows import finished_rows
from .map_writer import require_free_target
from .mapping import checked_stride
from .scene_run import PatchModel, write_map
from .series_scene import SeenImage, open_series
from .summary import SceneSummary
from .tiling import Tiling


@dataclass(frozen=True)
class SeriesSummary(SceneSummary):
    """What a run over a series did.

    Attributes:
        images: The images, by sensor and date.
        slots: First day of each slot of the season that was mapped, ``"YYYY-MM-DD"``; empty where
            the model has no calendar.
        dates: Length of the series that the model reads.
    """

    images: tuple[SeenImage, ...]
    slots: tuple[str, ...]
    dates: int

    def seen(self, sensor: str) -> list[float]:
        """Return the share of valid pixels of a sensor in each slot; of two images the larger."""
        shares = [0.0] * self.dates
        for image in self.images:
            if image.file.sensor == sensor:
                shares[image.slot] = max(shares[image.slot], image.share)
        return shares

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `SceneSummary`, the slots and the images."""
        images = [image.to_dict() for image in self.images]
        return {**super().to_dict(), "slots": list(self.slots), "images": images}


def map_series(
    model: PatchModel,
    source: PathLike,
    out_path: PathLike,
    *,
    stride: int | None = None,
    overwrite: bool = False,
    resume: str | None = None,
    progress: Progress | None = None,
) -> SeriesSummary:
    """Map dated rasters with a model of series; the map is a Cloud Optimized GeoTIFF of classes.

    Args:
        model: The model, of pixel series or of image series.
        source: Folder of rasters, or an index of them; see `esccs_edge.rasters.dated_files`. The
            earliest image says in which year the season begins.
        out_path: As for `esccs_edge.scenes.mapping.map_scene`.
        stride: Likewise; series of single pixels have none but 1.
        overwrite: Likewise.
        resume: Likewise.
        progress: Likewise.

    A pixel has no answer where no sensor saw it on any date.

    Raises:
        InputError: The model reads no series; dates or sensors cannot be told, or are out of the
            season; or as `map_scene`.
        RasterError: As `map_scene`; or images do not lie on one grid.
        EsccsError: The model failed.
    """
    started_s = time.perf_counter()
    manifest = model.manifest
    sample = manifest.sample
    if sample.dates is None:
        raise InputError(
            f"the model's task is {manifest.task}, which reads images of a single date",
            hint="Map its rasters: esccs-edge map OPTICAL SAR OUT",
        )
    stride = checked_stride(stride, manifest)
    files = dated_files(source, manifest.modalities)
    require_free_target(out_path, [file.path for file in files], overwrite=overwrite)
    with open_series(files, manifest) as scene, ExitStack() as stack:
        tiling = Tiling.of(scene.grid.height, scene.grid.width, sample.height, stride)
        rows = None
        if resume is not None:
            parts = [manifest.to_json(), tiling.rows, tiling.columns, resume]
            given = {f"{file.sensor} {file.date}": file.path for file in files}
            rows = stack.enter_context(finished_rows(out_path, given, parts))
        found = write_map(
            model, scene, tiling, out_path,
            rows=rows, overwrite=overwrite, progress=progress, started_s=started_s,
        )  # fmt: skip
        images = tuple(scene.seen())
    slots: tuple[str, ...] = ()
    if sample.calendar is not None:
        slots = tuple(map(str, sample.calendar.season(min(file.date for file in files))[:-1]))
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return SeriesSummary(**values, images=images, slots=slots, dates=sample.dates)
