"""One PNG that shows a scene and what was made of it: optical, SAR, class map, gate.

For people only; the numbers are in the class map and its scores. What stands where on the sheet
is `esccs_edge.view.sheet`'s business, what the pixels look like `esccs_edge.view.pictures`'.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec
from ..errors import InputError
from ..rasters.channels import narrowed
from ..rasters.grid import Grid, require_same_grid
from ..rasters.raster_file import MAX_SCENE_BYTES, open_raster
from ..scenes.map_reader import ClassMap, read_map, reduced_shape
from ..system.atomic import write_atomic
from .map_scale import ground_pixel_m
from .pictures import (
    class_picture,
    optical_picture,
    sar_caption,
    sar_picture,
    true_color_channels,
)
from .sheet import Sheet

#: Longest side of a panel's picture; a larger scene is read at reduced size.
PANEL_PX = 800

PathLike = str | os.PathLike[str]


def draw_quicklook(
    png_path: PathLike,
    class_map: PathLike,
    optical_path: PathLike | None,
    sar_path: PathLike | None,
    manifest: Manifest,
    *,
    title: str = "",
    note: str = "",
) -> Path:
    """Draw a classified scene as one PNG; an existing file is replaced.

    Args:
        png_path: Picture to write, ``.png``.
        class_map: What `esccs_edge.scenes.mapping.classify_scene` wrote; its scores lie beside it.
        optical_path: The optical raster that was classified, or None.
        sar_path: The SAR raster that was classified, or None.
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
    bands = true_color_channels(manifest.modalities["optical"])
    optical = _read(optical_path, manifest.modalities["optical"], bands, result.grid)
    sar = _read(
        sar_path, manifest.modalities["sar"], manifest.modalities["sar"].channels, result.grid
    )
    sheet = Sheet(result.grid)
    sheet.headline(title or Path(class_map).name, note, _facts(result))
    sheet.picture(
        (0, 0),
        f"Optical ({', '.join(bands)})",
        None
        if optical is None
        else optical_picture(optical, narrowed(manifest.modalities["optical"], bands)),
    )
    sheet.picture(
        (1, 0),
        f"SAR ({sar_caption(manifest.modalities['sar'])})",
        None if sar is None else sar_picture(sar, manifest.modalities["sar"]),
    )
    sheet.picture((0, 1), "Class map", class_picture(result.classes, result.names), smooth=False)
    sheet.class_legend((0, 1), result.classes, result.names)
    sheet.shares((1, 1), "Share of optical in the decision", result.gate_optical)
    write_atomic(target, sheet.png())
    return target


def _read(
    path: PathLike | None, spec: ModalitySpec, channels: Sequence[str], grid: Grid
) -> npt.NDArray[Any] | None:
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
