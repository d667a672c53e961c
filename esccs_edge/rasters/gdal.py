"""What this package uses of rasterio, and what GDAL raises as one error of ours."""

from __future__ import annotations

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
    from rasterio.windows import Window
except ImportError as error:
    raise MissingDependencyError.for_extra("rasterio", "geo", "Opening rasters") from error

__all__ = [
    "DAMAGE",
    "ColorInterp",
    "MaskFlags",
    "Resampling",
    "Window",
    "gdal_errors",
    "rasterio",
    "without_georeference",
]

#: What a damaged file makes rasterio raise beside its own errors, found by trying; ValueError is
#: damaged text.
DAMAGE: tuple[type[Exception], ...] = (CRSError, MemoryError, ValueError)


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


@contextmanager
def without_georeference() -> Iterator[None]:
    """Silence rasterio's warning about a raster without coordinates, which is allowed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
