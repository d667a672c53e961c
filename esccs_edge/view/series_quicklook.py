"""One PNG of a mapped series: two of its images, the class map, and the calendar of what was seen.

To look at only; the numbers are in the class map, its scores and the summary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..contracts.manifest import Manifest
from ..contracts.modality import modality_title
from ..contracts.types import PathLike
from ..errors import InputError
from ..scenes.map_reader import read_map
from ..scenes.series_mapping import SeriesSummary
from ..scenes.series_scene import SeenImage
from ..system.atomic import write_atomic
from ..system.path_text import shown_text
from .pictures import class_picture
from .quicklook import PANEL_PX, facts_of, input_panel
from .sheet import Sheet

#: Most dates that are written below the calendar.
TICKS = 12


def draw_series_quicklook(
    png_path: PathLike, summary: SeriesSummary, manifest: Manifest, *, note: str = ""
) -> Path:
    """Draw a mapped series as one PNG; an existing file is replaced.

    Shown is the fullest image of each sensor; of a single sensor, those of the first and of the
    second half of its images.

    Args:
        png_path: Picture to write, ``.png``.
        summary: What `esccs_edge.scenes.series_mapping.map_series` returned.
        manifest: Contract of the model.
        note: A line below the headline, for example that the scene is simulated.

    Returns:
        The path of the picture.

    Raises:
        InputError: The name does not end in ``.png``.
        RasterError: A raster cannot be read.
    """
    target = Path(png_path)
    if target.suffix.lower() != ".png":
        raise InputError(f"quicklook is {target.name!r}, expected a name ending in .png")
    result = read_map(summary.class_map, PANEL_PX)
    sheet = Sheet(result.grid, calendar_rows=len(manifest.modalities))
    sheet.headline(shown_text(summary.class_map.name), note, facts_of(result))
    for row, image in enumerate(_chosen(summary.images, list(manifest.modalities))):
        spec = manifest.modalities[image.file.sensor]
        caption, picture = input_panel(image.file.path, spec, result.grid)
        word = modality_title(image.file.sensor)
        title = f"{word[0].upper()}{word[1:]}, {image.file.date} ({caption})"
        sheet.picture((row, 0), title, picture)
    classes = class_picture(result.classes, result.names)
    sheet.picture((0, 1), "Class map", classes, smooth=False)
    sheet.class_legend((0, 1), result.classes, result.names)
    sheet.shares((1, 1), "Confidence", result.confidence)
    seen = {modality_title(name): summary.seen(name) for name in manifest.modalities}
    sheet.calendar("Share of the scene that was seen", seen, _ticks(summary))
    write_atomic(target, sheet.png())
    return target


def _chosen(images: Sequence[SeenImage], sensors: Sequence[str]) -> list[SeenImage]:
    """Return two images to show, or one where there is no other."""
    groups = [[one for one in images if one.file.sensor == sensor] for sensor in sensors]
    groups = [group for group in groups if group]
    if len(groups) == 1:
        half = -(-len(groups[0]) // 2)
        groups = [groups[0][:half], groups[0][half:]]
    return [max(group, key=lambda one: one.share) for group in groups if group]


def _ticks(summary: SeriesSummary) -> dict[int, str]:
    """Return what to write below the slots: days of the season, or dates of images."""
    if summary.slots:
        days = dict(enumerate(summary.slots))
    else:
        days = {image.slot: str(image.file.date) for image in summary.images}
    step = -(-summary.dates // TICKS)
    shown = sorted(days)[::step]
    year = np.datetime64(days[shown[0]], "Y")
    return {
        slot: days[slot] if i == 0 or np.datetime64(days[slot], "Y") != year else days[slot][5:]
        for i, slot in enumerate(shown)
    }
