"""What this package uses of rasterio, and what GDAL raises as one error of ours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import MissingDependencyError, RasterError

try:
    import rasterio
    import rasterio.shutil
    from rasterio._err import CPLE_BaseError  # some calls let GDAL's own errors through
    from rasterio.enums import ColorInterp, MaskFlags, Resampling
    from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine
    from rasterio.warp import reproject, transform, transform_bounds
    from rasterio.windows import Window
except ImportError as error:
    raise MissingDependencyError.for_extra("rasterio", "geo", "Opening rasters", error) from error

__all__ = [
    "DAMAGE",
    "Affine",
    "ColorInterp",
    "MaskFlags",
    "MemoryFile",
    "Resampling",
    "Window",
    "bounded_cache",
    "gdal_errors",
    "rasterio",
    "reproject",
    "transform",
    "transform_bounds",
    "without_georeference",
]

#: What a damaged file makes rasterio raise beside its own errors, found by trying. ValueError is
#: damaged text; SystemError is the same in a message of GDAL, after which rasterio's logger
#: returns with the error still pending.
DAMAGE: tuple[type[Exception], ...] = (CRSError, MemoryError, SystemError, ValueError)


@contextmanager
def gdal_errors(
    what: str, *, hint: str = "", also: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what GDAL and the file system raise into a `RasterError`.

    Args:
        what: What failed, such as ``"cannot read scene.tif"``; the cause is added.
        hint: What to do about it.
        also: Further exceptions to turn, such as `DAMAGE`.
    """
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError, *also) as error:
        raise RasterError(f"{what}: {error.__cause__ or error}", hint=hint) from error


#: Decoded blocks that GDAL keeps while a scene is read: two rows of blocks of all bands of a
#: Sentinel-2 tile and its SAR. Left to itself it keeps a twentieth of the machine's memory.
SCENE_CACHE_BYTES = 512 << 20


@contextmanager
def bounded_cache() -> Iterator[None]:
    """Bound what GDAL keeps by `SCENE_CACHE_BYTES`; a bound that the environment sets stays."""
    if "GDAL_CACHEMAX" in os.environ:
        yield
        return
    with rasterio.Env(GDAL_CACHEMAX=SCENE_CACHE_BYTES):
        yield


@contextmanager
def without_georeference() -> Iterator[None]:
    """Silence rasterio's warning about a raster without coordinates, which is allowed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
