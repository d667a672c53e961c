"""Whole raster files and arrays of data sets that have no index; nothing is converted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge.contracts.types import Array
from esccs_edge.errors import MissingDependencyError, RasterError
from esccs_edge.rasters.npy_file import map_npy

#: ``((first row, last row + 1), (first column, last column + 1))``.
Part = tuple[tuple[int, int], tuple[int, int]]


def read_raster(path: Path, channels: int, part: Part | None = None) -> Array:
    """Read ``(channels, H, W)`` as stored.

    Args:
        path: A raster that GDAL reads.
        channels: Bands to expect.
        part: Rows and columns to read; None for all.

    Raises:
        RasterError: It cannot be read, or has another number of bands.
        MissingDependencyError: rasterio is not installed.
    """
    with _opened(path) as raster:
        pixels: Array = raster.read(window=part)
    if len(pixels) != channels:
        raise RasterError(f"{path} has {len(pixels)} bands, expected {channels}")
    return pixels


def raster_size(path: Path) -> tuple[int, int]:
    """Return height and width.

    Raises:
        RasterError: It cannot be read.
        MissingDependencyError: rasterio is not installed.
    """
    with _opened(path) as raster:
        return int(raster.height), int(raster.width)


def read_array(path: Path) -> Array:
    """Read a ``.npy`` file.

    Raises:
        RasterError: It cannot be read.
    """
    return np.array(map_npy(path))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import rasterio
    except ImportError as error:
        raise MissingDependencyError.for_extra("rasterio", "geo", "Reading rasters") from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Dataset has no geotransform")
            with rasterio.open(path) as raster:
                yield raster
    except rasterio.errors.RasterioError as error:
        raise RasterError(f"cannot read {path}: {error}") from error
