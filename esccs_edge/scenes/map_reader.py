"""Reads a class map and its scores back, at the size a picture needs."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingDependencyError, RasterError
from ..rasters.grid import Grid, grid_of
from ..rasters.raster_file import regular_file
from .map_writer import NODATA, scores_path_of

try:
    import rasterio
    from rasterio._err import CPLE_BaseError  # some calls let GDAL's own errors through
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
except ImportError as error:
    raise MissingDependencyError.for_extra("rasterio", "geo", "Reading maps") from error

Share = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClassMap:
    """A class map as `esccs_edge.scenes.map_writer` writes it, possibly at reduced size.

    Attributes:
        names: Class names.
        classes: ``(h, w)`` uint8 positions in ``names``, 255 where there is no answer.
        confidence: ``(h, w)`` float32 in [0, 1], NaN where there is no answer.
        gate_optical: The same for the share of optical in the decision.
        grid: Grid of the file, at full size.
        model: Name of the model that made it.
    """

    names: tuple[str, ...]
    classes: npt.NDArray[np.uint8]
    confidence: Share
    gate_optical: Share
    grid: Grid
    model: str


def read_map(class_map: str | os.PathLike[str], longest_side: int) -> ClassMap:
    """Read a class map with its scores, at most ``longest_side`` pixels high and wide.

    Raises:
        RasterError: One of the two files cannot be read, or is not such a map.
    """
    classes, tags, grid = _read(Path(class_map), 1, longest_side, Resampling.nearest)
    scores, _, scores_grid = _read(scores_path_of(class_map), 2, longest_side, Resampling.average)
    names = _names(tags, Path(class_map))
    if (scores_grid.height, scores_grid.width) != (grid.height, grid.width):
        raise RasterError(f"{scores_path_of(class_map)} is not of the size of {class_map}")
    shares = np.where(scores == NODATA, np.float32(np.nan), scores * np.float32(0.01))
    return ClassMap(names, classes[0], shares[0], shares[1], grid, tags.get("MODEL", ""))


def _read(
    path: Path, bands: int, longest_side: int, resampling: Resampling
) -> tuple[npt.NDArray[np.uint8], dict[str, str], Grid]:
    file = regular_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(file, driver="GTiff")
        with dataset:
            if dataset.count != bands or set(dataset.dtypes) != {"uint8"}:
                raise RasterError(f"{path} is not a map of this package, expected {bands} x uint8")
            shape = reduced_shape(dataset.height, dataset.width, longest_side)
            pixels: Any = dataset.read(out_shape=(bands, *shape), resampling=resampling)
            return pixels, dataset.tags(), grid_of(dataset, str(path))
    except (RasterioError, CPLE_BaseError, OSError, ValueError) as error:
        raise RasterError(f"cannot read {path}: {error.__cause__ or error}") from error


def reduced_shape(height: int, width: int, longest_side: int) -> tuple[int, int]:
    """Return a size of the same proportions that fits; never larger than the original."""
    factor = min(1.0, longest_side / max(height, width))
    return max(round(height * factor), 1), max(round(width * factor), 1)


def _names(tags: dict[str, str], path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(tags["CLASSES"])
    except (KeyError, ValueError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RasterError(f"{path} carries no class names in its tag CLASSES")
    return tuple(names)
