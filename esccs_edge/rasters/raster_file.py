"""Opens raster files safely: what is opened, and what may be read from it.

Files are not trusted. Only existing regular files reach GDAL, only through the two drivers we
name, and only when what they declare fits the limits; everything else is a `RasterError`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.modality import ModalitySpec
from ..contracts.types import Array, Mask, PathLike
from ..errors import RasterError
from ..system.path_text import path_text
from .absent import absent_pixels, data_bands
from .channels import channel_positions
from .gdal import (
    DAMAGE,
    Resampling,
    Window,
    gdal_errors,
    rasterio,
    without_georeference,
)
from .grid import Grid, raster_grid
from .scaling import Scaling

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STACK = (
    "Products, JPEG 2000 and bands in files of their own become a pair of rasters by: "
    "esccs-edge stack OPTICAL SAR --out pair; esccs-edge map reads them directly"
)
_UNPACK = "Unpack it first"
_CONVERT = "Write its bands to one GeoTIFF, such as with gdal_translate"
#: How files of formats that are not read begin -> what they are, and what to do.
_OTHER_FORMATS = {
    b"\x00\x00\x00\x0cjP  ": ("JPEG 2000", _STACK),
    b"\xff\x4f\xff\x51": ("JPEG 2000", _STACK),
    b"PK\x03\x04": ("a ZIP archive", _STACK),
    b"\x1f\x8b": ("compressed by gzip", _UNPACK),
    b"BZh": ("compressed by bzip2", _UNPACK),
    b"\x89HDF": ("HDF5 or netCDF", _CONVERT),
    b"CDF": ("netCDF", _CONVERT),
    b"<VRT": ("a list of other files (VRT)", _CONVERT),
    b"<?xml": ("a text of XML", "Give the folder of the product that it describes"),
}
#: Most bytes of pixels that are read at once: a whole patch file, or one compressed block.
MAX_READ_BYTES = 1 << 30
#: Most bytes of pixels a scene may declare: 100,000 x 100,000 pixels of 13 bands and 16 bits fit.
MAX_SCENE_BYTES = 400 << 30


class RasterFile:
    """One open raster, read in the model's channel order. Used by one thread at a time.

    Attributes:
        path: The file.
        grid: Its pixel grid.
    """

    def __init__(self, dataset: Any, path: Path, spec: ModalitySpec) -> None:
        self.path = path
        self.grid: Grid = raster_grid(dataset, str(path))
        self._dataset = dataset
        self._spec = spec
        bands = data_bands(dataset, path)
        descriptions = [dataset.descriptions[band - 1] for band in bands]
        self._bands = [bands[i] for i in channel_positions(descriptions, spec, str(path))]
        self._dtype = _common_dtype([dataset.dtypes[band - 1] for band in self._bands], path)
        self._scaling: Scaling | None = Scaling.of(dataset, self._bands, self._dtype, path)

    @property
    def declared_bytes(self) -> int:
        """Bytes of the needed bands when decoded."""
        return self.grid.height * self.grid.width * len(self._bands) * self._dtype.itemsize

    def read(
        self, row: int = 0, column: int = 0, height: int | None = None, width: int | None = None
    ) -> Array:
        """Read a window that lies inside the raster; all of it by default.

        Returns:
            ``(C, height, width)`` in the model's channel order. Integers stay digital numbers
            unless the file carries scale and offset tags, which make them float32 values. A
            pixel that the file declares absent is the model's nodata value (integers) or NaN.

        Raises:
            RasterError: The file is damaged, or marks pixels absent in a way the model cannot
                express.
        """
        window = Window(
            column,
            row,
            self.grid.width - column if width is None else width,
            self.grid.height - row if height is None else height,
        )
        return self._read(window, list(range(len(self._bands))))

    def read_resized(
        self,
        height: int,
        width: int,
        resampling: str,
        channels: Sequence[str] | None = None,
    ) -> Array:
        """Read the whole raster at another size; uses overviews where the file has them.

        Args:
            height: Rows wanted.
            width: Columns wanted.
            resampling: ``"nearest"``, ``"bilinear"`` or ``"average"``; absent pixels that the
                file declares take no part.
            channels: Channels of the model to read; None is all.

        Raises:
            RasterError: As `read`.
        """
        wanted = self._spec.channels if channels is None else channels
        picked = [self._spec.channels.index(channel) for channel in wanted]
        return self._read(None, picked, (height, width), Resampling[resampling])

    def _read(
        self,
        window: Window | None,
        picked: list[int],
        shape: tuple[int, int] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> Array:
        bands = [self._bands[i] for i in picked]
        with _read_errors(self.path):
            stored = self._dataset.read(
                bands,
                window=window,
                out_shape=None if shape is None else (len(bands), *shape),
                out_dtype=self._dtype,
                resampling=resampling,
            )
            absent = self._absent(stored, bands, window, resampling)
        return self._filled(self._scaled(stored, picked), absent)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._dataset.close()

    def _absent(
        self, stored: Array, bands: list[int], window: Window | None, resampling: Resampling
    ) -> Mask | None:
        """Return the pixels the file marks absent, beyond those the model's own rule finds."""
        absent = absent_pixels(
            self._dataset, stored, bands, self._spec, self.path, window, resampling
        )
        if self._scaling is not None:  # scaling changes the model's own value, so apply it now
            own = ~self._spec.valid_mask(stored)
            absent = own if absent is None else absent | own
        return absent

    def _scaled(self, stored: Array, picked: list[int]) -> Array:
        if self._scaling is not None:
            return self._scaling.applied(stored, picked, self._spec, self.path)
        # A float64 beyond float32 becomes infinite, a signaling NaN quiet; both are masked later.
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(stored, np.float32) if stored.dtype.kind == "f" else stored

    def _filled(self, pixels: Array, absent: Mask | None) -> Array:
        if absent is not None and absent.any():
            pixels[:, absent] = absent_value(pixels.dtype, self._spec, str(self.path))
        return pixels


def absent_value(dtype: np.dtype[Any], spec: ModalitySpec, name: str) -> float:
    """Return the stored value that marks an absent pixel in an array of this dtype.

    Raises:
        RasterError: The pixels are integers and the model declares no nodata value.
    """
    if dtype.kind == "f":
        return float("nan")
    if spec.nodata is None:
        raise RasterError(
            f"{name} has absent {dtype} pixels, but the model declares no nodata value",
            hint="Store the pixels as float32 with NaN where absent",
        )
    return spec.nodata


@contextmanager
def open_raster(
    path: PathLike, spec: ModalitySpec, *, max_bytes: int = MAX_READ_BYTES
) -> Iterator[RasterFile]:
    """Open a GeoTIFF or PNG whose bands fit the model; closed on leaving.

    Args:
        path: An existing regular file.
        spec: Contract of the modality.
        max_bytes: Most bytes of pixels the file may declare.

    Raises:
        RasterError: Not a regular file, not a GeoTIFF or PNG, wrong bands, a rotated grid, or
            more pixels declared than the limits allow.
    """
    file = regular_file(path)
    with open_dataset(file) as dataset:
        with _read_errors(file):
            _require_one_image(dataset, file, spec)
            _require_readable_blocks(dataset, file)
            raster = RasterFile(dataset, file, spec)
        if raster.declared_bytes > max_bytes:
            raise _too_large(file, raster.declared_bytes, max_bytes)
        yield raster


def band_descriptions(path: PathLike) -> list[str | None]:
    """Return the description of each data band of a GeoTIFF or PNG, None where it has none.

    Raises:
        RasterError: Not a regular file, or not a GeoTIFF or PNG.
    """
    file = regular_file(path)
    with open_dataset(file) as dataset, _read_errors(file):
        return [dataset.descriptions[band - 1] for band in data_bands(dataset, file)]


def grid_of_file(path: PathLike) -> Grid:
    """Return the grid of a GeoTIFF or PNG.

    Raises:
        RasterError: Not a regular file, not a GeoTIFF or PNG, or not on a north-up grid.
    """
    file = regular_file(path)
    with open_dataset(file) as dataset, _read_errors(file):
        return raster_grid(dataset, str(path))


def read_only_band(path: PathLike) -> tuple[Array, Mask]:
    """Read a raster of one band as it is stored, color table or not.

    Returns:
        ``(H, W)`` numbers, and which of them the file declares absent.

    Raises:
        RasterError: The file cannot be read, is too large, or holds more bands.
    """
    file = regular_file(path)
    with open_dataset(file) as dataset, _read_errors(file):
        if dataset.count != 1:
            raise RasterError(f"{file} has {dataset.count} bands, expected 1")
        _require_readable_blocks(dataset, file)
        if (size := dataset.height * dataset.width * _itemsize(dataset.dtypes[0])) > MAX_READ_BYTES:
            raise _too_large(file, size, MAX_READ_BYTES)
        return dataset.read(1), dataset.read_masks(1) == 0


def regular_file(path: PathLike) -> Path:
    """Return an absolute path to an existing regular file.

    Raises:
        RasterError: Missing, unreadable, or a folder, pipe or device.
    """
    file = Path(os.path.abspath(path))
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:
        raise RasterError(
            f"cannot open {path}: {getattr(error, 'strerror', None) or error}",
            hint="Give the path of an existing file; addresses and archive members are not read",
        ) from None
    if not stat.S_ISREG(mode) or str(file).startswith("/vsi"):
        raise RasterError(
            f"{path} is not a regular file, expected a GeoTIFF or PNG",
            hint=_STACK if stat.S_ISDIR(mode) else "",
        )
    return file


@contextmanager
def open_dataset(file: Path) -> Iterator[Any]:
    """Open a regular file as a rasterio dataset; closed on leaving.

    Raises:
        RasterError: Not a GeoTIFF or PNG.
    """
    with _read_errors(file), without_georeference():  # a PNG never has one
        dataset = rasterio.open(path_text(file), driver=_driver(file))
    with dataset:
        yield dataset


def other_format(start: bytes) -> tuple[str, str] | None:
    """Return what a file of a known format that begins so is, and what to do; else None."""
    found = (what for signature, what in _OTHER_FORMATS.items() if start.startswith(signature))
    return next(found, None)


def _driver(file: Path) -> str:
    """Name the one driver that may open the file.

    Left to itself GDAL also opens a VRT named ``.tif``, which can point at any other file.

    Raises:
        RasterError: A format that is known and not read.
    """
    with file.open("rb") as stream:
        start = stream.read(12)
    if other := other_format(start):
        raise RasterError(
            f"cannot read {file}: it is {other[0]}, expected a GeoTIFF or PNG", hint=other[1]
        )
    return "PNG" if start.startswith(_PNG_SIGNATURE) else "GTiff"


def _require_one_image(dataset: Any, path: Path, spec: ModalitySpec) -> None:
    pages = len(dataset.subdatasets)
    if pages > 1 and dataset.count < len(spec.channels):
        raise RasterError(
            f"{path} has {pages} pages of {dataset.count} band each, expected one image of "
            f"{len(spec.channels)} bands",
            hint=_STACK,
        )


def _read_errors(path: Path) -> AbstractContextManager[None]:
    return gdal_errors(
        f"cannot read {path}", hint="Expected an undamaged GeoTIFF or PNG", also=DAMAGE
    )


def _common_dtype(dtypes: list[str], path: Path) -> np.dtype[Any]:
    if any(name.startswith("complex") for name in dtypes):
        raise RasterError(
            f"{path} holds {dtypes[0]} pixels, expected integers or floats",
            hint="Complex SAR must be detected first: sigma0 in dB as float32",
        )
    return np.result_type(*[np.dtype(name) for name in dtypes])


def _too_large(file: Path, found: int, allowed: int) -> RasterError:
    return RasterError(
        f"{file} declares {found / 1e9:.3g} GB of pixels, expected at most {allowed / 1e9:.3g} GB",
        hint="Use `classify_scene or segment_scene` for large rasters, or cut it first",
    )


def _require_readable_blocks(dataset: Any, path: Path) -> None:
    """Refuse a file whose single block would fill the memory: GDAL decodes whole blocks."""
    height, width = dataset.block_shapes[0]
    interleaved = dataset.count if str(dataset.interleaving).lower().endswith("pixel") else 1
    itemsize = max(_itemsize(name) for name in dataset.dtypes)
    if (size := height * width * interleaved * itemsize) > MAX_READ_BYTES:
        raise RasterError(
            f"{path} declares blocks of {size / 1e9:.3g} GB, "
            f"expected at most {MAX_READ_BYTES / 1e9:.3g} GB",
            hint="Rewrite it in tiles, for example as a Cloud Optimized GeoTIFF",
        )


def _itemsize(dtype: str) -> int:
    return 4 if dtype == "complex_int16" else np.dtype(dtype).itemsize
