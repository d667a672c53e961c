"""Reads a class map and its scores back, at the size a picture needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contracts.types import Array, Floats, PathLike
from ..contracts.values import NODATA
from ..errors import RasterError
from ..rasters.gdal import DAMAGE, Resampling, gdal_errors
from ..rasters.grid import Grid, raster_grid
from ..rasters.raster_file import open_dataset, regular_file
from .map_writer import CONFIDENCE, PAIR, scores_path_of


@dataclass(frozen=True)
class ClassMap:
    """A class map as `esccs_edge.scenes.map_writer` writes it, possibly at reduced size.

    Attributes:
        names: Class names.
        classes: ``(h, w)`` uint8 positions in ``names``, 255 where there is no answer.
        confidence: ``(h, w)`` float32 in [0, 1], NaN where there is no answer.
        layers: Score layer of the task -> the same, such as ``gate_optical``, the share of optical
            in the decision.
        grid: Grid of the file, at full size.
        model: Name of the model that made it.
    """

    names: tuple[str, ...]
    classes: npt.NDArray[np.uint8]
    confidence: Floats
    layers: Mapping[str, Floats]
    grid: Grid
    model: str

    @property
    def gate_optical(self) -> Floats:
        """The layer of that name."""
        return self.layers["gate_optical"]


@dataclass(frozen=True)
class _MapFile:
    pixels: Array
    bands: tuple[str, ...]
    tags: Mapping[str, str]
    grid: Grid


def read_map(class_map: PathLike, longest_side: int) -> ClassMap:
    """Read a class map with its scores, at most ``longest_side`` pixels high and wide.

    Raises:
        RasterError: One of the two files cannot be read, or is not such a map.
    """
    classes = _read(Path(class_map), "class", longest_side, Resampling.nearest)
    scores = _read(scores_path_of(class_map), CONFIDENCE, longest_side, Resampling.average)
    require_pair(classes.tags, scores.tags, Path(class_map))
    grid = classes.grid
    if (scores.grid.height, scores.grid.width) != (grid.height, grid.width):
        raise RasterError(f"{scores_path_of(class_map)} is not of the size of {class_map}")
    percent = scores.pixels
    shares = np.where(percent == NODATA, np.float32(np.nan), percent * np.float32(0.01))
    return ClassMap(
        _class_names(classes.tags, Path(class_map)),
        classes.pixels[0],
        shares[0],
        dict(zip(scores.bands[1:], shares[1:], strict=True)),
        grid,
        classes.tags.get("MODEL", ""),
    )


def require_pair(class_map: Mapping[str, str], scores: Mapping[str, str], path: Path) -> None:
    """Refuse a map beside the scores of another one: a process that died between the two left them.

    Args:
        class_map: Tags of the map.
        scores: Tags of the scores.
        path: Of the map, for the message.

    Raises:
        RasterError: They are not of one run.
    """
    if class_map.get(PAIR) != scores.get(PAIR):
        raise RasterError(
            f"{path} and {scores_path_of(path).name} are of different runs",
            hint="A run that replaced them was ended in between; map the scene again",
        )


def _read(path: Path, first_band: str, longest_side: int, resampling: Resampling) -> _MapFile:
    file = regular_file(path)
    with open_dataset(file) as dataset, gdal_errors(f"cannot read {path}", also=DAMAGE):
        bands = tuple(str(text) for text in dataset.descriptions)
        if bands[0] != first_band or set(dataset.dtypes) != {"uint8"}:
            raise RasterError(
                f"{path} is not a map of this package, expected bands of uint8, "
                f"first {first_band!r}"
            )
        shape = reduced_shape(dataset.height, dataset.width, longest_side)
        pixels = dataset.read(out_shape=(len(bands), *shape), resampling=resampling)
        return _MapFile(pixels, bands, dataset.tags(), raster_grid(dataset, str(path)))


def reduced_shape(height: int, width: int, longest_side: int) -> tuple[int, int]:
    """Return a size of the same proportions that fits; never larger than the original."""
    factor = min(1.0, longest_side / max(height, width))
    return max(round(height * factor), 1), max(round(width * factor), 1)


def _class_names(tags: Mapping[str, str], path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(tags["CLASSES"])
    except (KeyError, ValueError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RasterError(f"{path} carries no class names in its tag CLASSES")
    return tuple(names)
