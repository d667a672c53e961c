"""``esccs-edge map``: a folder of dated rasters in, a map of classes out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .map_scene import require_png, scene_text
from .progress import Progress
from .shell import CommandResult

if TYPE_CHECKING:
    from ..scenes.series_mapping import SeriesSummary
    from .model_options import ModelOptions


def map_series(
    model: ModelOptions,
    series: Path,
    out: Path,
    *,
    quicklook: Path | None,
    stride: int | None,
    overwrite: bool,
    resume: bool,
) -> CommandResult:
    """Map dated rasters with a bundle of a series task, and draw them if asked."""
    if quicklook is not None:
        from ..view.series_quicklook import draw_series_quicklook

        require_png(quicklook)
    from ..archive.map_item import require_free_item, write_map_item
    from ..rasters.dated_files import dated_files
    from ..scenes import series_mapping
    from ..scenes.map_writer import require_no_input

    opened = model.open_bundle()
    manifest = model.as_stored(opened.manifest)
    require_free_item(out, overwrite=overwrite)
    if manifest.sample.dates is not None:  # what is wrong with them is said before a model is open
        files = dated_files(series, manifest.modalities)
        require_no_input(quicklook or out, [file.path for file in files])
    with model.open_model(opened, manifest) as runtime:
        with Progress("map") as progress:
            summary = series_mapping.map_series(
                runtime,
                series,
                out,
                stride=stride,
                overwrite=overwrite,
                resume=model.how_it_runs if resume else None,
                progress=progress,
            )
    days = [image.file.date for image in summary.images]
    item = write_map_item(
        summary, manifest, {}, {"series": series}, season=(str(min(days)), str(max(days)))
    )
    if quicklook is not None:
        draw_series_quicklook(quicklook, summary, manifest)
    document = {**summary.to_dict(), "item": item, "quicklook": quicklook}
    text = [scene_text(summary, quicklook), *_calendar(summary, manifest.modalities)]
    return CommandResult(document, "\n".join(text))


def _calendar(summary: SeriesSummary, sensors: Iterable[str]) -> list[str]:
    """Say of each sensor and slot how much was seen: a digit for tenths, a dot for nothing."""
    lines = [f"  {len(summary.images)} images in {summary.dates} slots, tenths of the scene seen:"]
    if summary.slots:
        lines[0] = lines[0][:-1] + f", from {summary.slots[0]}:"
    for sensor in sensors:
        tenths = [_tenths(share) for share in summary.seen(sensor)]
        lines.append(f"  {sensor:8} {' '.join(tenths)}")
    return lines


def _tenths(share: float) -> str:
    """Return ``.`` for nothing, 0 for less than a tenth, ``*`` for all."""
    return "." if share == 0 else "*" if share == 1 else str(int(share * 10))
