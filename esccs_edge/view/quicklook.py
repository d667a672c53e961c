"""One PNG that shows a scene and what was made of it: inputs, class map and one score layer.

To look at only; the numbers are in the class map and its scores. `esccs_edge.view.sheet` lays the
page out, `esccs_edge.view.pictures` turns pixels into colors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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
from ..system.path_text import shown_text
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


class ClearSky(NamedTuple):
    """What is under the clouds, to compare with.

    Attributes:
        image: Optical raster of the same grid under a clear sky.
        class_map: What the model answers on it alone.
    """

    image: PathLike
    class_map: PathLike


def draw_quicklook(
    png_path: PathLike,
    class_map: PathLike,
    paths: SamplePaths,
    manifest: Manifest,
    *,
    clear_sky: ClearSky | None = None,
    title: str = "",
    note: str = "",
) -> Path:
    """Draw a mapped scene as one PNG; an existing file is replaced.

    Args:
        png_path: Picture to write, ``.png``.
        class_map: What `esccs_edge.scenes.mapping.map_scene` wrote; its scores lie beside it.
        paths: Modality name -> raster that was mapped. The first two of the model are shown.
        manifest: Contract of the model.
        clear_sky: Clear image and its map, drawn between the inputs and the map.
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
    sheet = Sheet(result.grid, columns=2 if clear_sky is None else 3)
    sheet.headline(title or shown_text(Path(class_map).name), note, facts_of(result))
    for row, (name, spec) in enumerate(list(manifest.modalities.items())[:PANELS]):
        caption, picture = input_panel(paths.get(name), spec, result.grid)
        word = modality_title(name)
        sheet.picture((row, 0), f"{word[0].upper()}{word[1:]} ({caption})", picture)
    last, other = 1, None
    if clear_sky is not None:
        spec = next(iter(manifest.modalities.values()))
        last, other = 2, _clear_panels(sheet, clear_sky, spec, result.grid)
    classes = class_picture(result.classes, result.names)
    sheet.picture((0, last), "Class map", classes, smooth=False)
    sheet.class_legend((0, last), result.classes, result.names, other)
    layer, shares = next(iter(result.layers.items()), ("confidence", result.confidence))
    label = _TITLES.get(layer, layer.replace("_", " ").capitalize())
    sheet.shares((1, last), label, shares, _MEANINGS.get(layer, ("", "", "")))
    write_atomic(target, sheet.png())
    return target


def _clear_panels(
    sheet: Sheet, clear_sky: ClearSky, spec: ModalitySpec, grid: Grid
) -> npt.NDArray[np.uint8]:
    """Show the clear image above its map, and return that map.

    The model got neither for the map under clouds.
    """
    caption, picture = input_panel(clear_sky.image, spec, grid)
    sheet.picture((0, 1), f"Clear on another day ({caption}), not given", picture)
    answer = read_map(clear_sky.class_map, PANEL_PX)
    require_same_grid(answer.grid, grid, names=("the clear map", "the class map"))
    colors = class_picture(answer.classes, answer.names)
    sheet.picture((1, 1), "Class map of the clear image alone", colors, smooth=False)
    return answer.classes


def input_panel(
    path: PathLike | None, spec: ModalitySpec, grid: Grid
) -> tuple[str, Picture | None]:
    """Return caption and picture of a modality; backscatter is recognized by its unit.

    Args:
        path: Raster on the grid of the map; None gives no picture.
        spec: Contract of the modality.
        grid: Of the map.

    Raises:
        RasterError: The raster cannot be read, or lies on another grid.
    """
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


def facts_of(result: ClassMap) -> str:
    """Say the size, the place and the mean confidence of a map."""
    grid, pixel_m = result.grid, ground_pixel_m(result.grid)
    facts = [f"{grid.height} x {grid.width} pixels"]
    if pixel_m is not None:
        facts += [f"{pixel_m[0]:.3g} x {pixel_m[1]:.3g} m", grid.crs.to_string()]
    if np.isfinite(result.confidence).any():
        facts.append(f"mean confidence {np.nanmean(result.confidence):.2f}")
    if result.model:
        facts.append(f"model {result.model}")
    return ", ".join(facts)
