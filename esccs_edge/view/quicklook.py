"""One PNG that shows a scene and what was made of it: inputs, class map and one score layer.

To look at only; the numbers are in the class map and its scores. `esccs_edge.view.sheet` lays the
page out, `esccs_edge.view.pictures` turns pixels into colors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec, modality_title
from ..contracts.types import Array, PathLike
from ..errors import InputError
from ..rasters.channels import narrowed
from ..rasters.grid import Grid, require_same_grid
from ..rasters.raster_file import MAX_SCENE_BYTES, open_raster
from ..rasters.reader import SamplePaths
from ..scenes.map_reader import ClassMap, read_map, reduced_shape
from ..system.atomic import write_atomic
from .map_scale import ground_pixel_m
from .pictures import (
    Picture,
    class_picture,
    optical_picture,
    sar_caption,
    sar_picture,
    true_color_channels,
)
from .sheet import Sheet

#: Longest side of a panel's picture; a larger scene is read at reduced size.
PANEL_PX = 800
#: Modalities that have a panel; more are not shown.
PANELS = 2
#: What 0, 0.5 and 1 mean in a score layer whose values have a name.
_MEANINGS = {"gate_optical": ("SAR alone", "both alike", "optical alone")}
_TITLES = {"gate_optical": "Share of optical in the decision"}


def draw_quicklook(
    png_path: PathLike,
    class_map: PathLike,
    paths: SamplePaths,
    manifest: Manifest,
    *,
    title: str = "",
    note: str = "",
) -> Path:
    """Draw a mapped scene as one PNG; an existing file is replaced.

    Args:
        png_path: Picture to write, ``.png``.
        class_map: What `esccs_edge.scenes.mapping.map_scene` wrote; its scores lie beside it.
        paths: Modality name -> raster that was mapped. The first two of the model are shown.
        manifest: Contract of the model.
        title: Headline; the name of the class map by default.
        note: A line below it, for example that the scene is simulated.

    Returns:
        The path of the picture.

    Raises:
        InputError: The name does not end in ``.png``.
        RasterError: A raster cannot be read, or does not lie on the grid of the class map.
    """
    target = Path(png_path)
    if target.suffix.lower() != ".png":
        raise InputError(f"quicklook is {target.name!r}, expected a name ending in .png")
    result = read_map(class_map, PANEL_PX)
    sheet = Sheet(result.grid)
    sheet.headline(title or Path(class_map).name, note, _facts(result))
    for row, (name, spec) in enumerate(list(manifest.modalities.items())[:PANELS]):
        caption, picture = _input_panel(paths.get(name), spec, result.grid)
        word = modality_title(name)
        sheet.picture((row, 0), f"{word[0].upper()}{word[1:]} ({caption})", picture)
    sheet.picture((0, 1), "Class map", class_picture(result.classes, result.names), smooth=False)
    sheet.class_legend((0, 1), result.classes, result.names)
    layer, shares = next(iter(result.layers.items()), ("confidence", result.confidence))
    label = _TITLES.get(layer, layer.replace("_", " ").capitalize())
    sheet.shares((1, 1), label, shares, _MEANINGS.get(layer, ("", "", "")))
    write_atomic(target, sheet.png())
    return target


def _input_panel(
    path: PathLike | None, spec: ModalitySpec, grid: Grid
) -> tuple[str, Picture | None]:
    """Return caption and picture of a modality; backscatter is recognized by its unit."""
    if spec.unit == "dB":
        pixels = _read(path, spec, spec.channels, grid)
        return sar_caption(spec), None if pixels is None else sar_picture(pixels, spec)
    bands = true_color_channels(spec)
    pixels = _read(path, spec, bands, grid)
    shown = narrowed(spec, bands)
    return ", ".join(bands), None if pixels is None else optical_picture(pixels, shown)


def _read(
    path: PathLike | None, spec: ModalitySpec, channels: Sequence[str], grid: Grid
) -> Array | None:
    if path is None:
        return None
    with open_raster(path, spec, max_bytes=MAX_SCENE_BYTES) as raster:
        require_same_grid(raster.grid, grid, names=(Path(path).name, "the class map"))
        shape = reduced_shape(grid.height, grid.width, PANEL_PX)
        return raster.read_resized(*shape, "average", channels)


def _facts(result: ClassMap) -> str:
    grid, pixel_m = result.grid, ground_pixel_m(result.grid)
    facts = [f"{grid.height} x {grid.width} pixels"]
    if pixel_m is not None:
        facts += [f"{pixel_m[0]:.3g} x {pixel_m[1]:.3g} m", grid.crs.to_string()]
    if np.isfinite(result.confidence).any():
        facts.append(f"mean confidence {np.nanmean(result.confidence):.2f}")
    if result.model:
        facts.append(f"model {result.model}")
    return ", ".join(facts)
