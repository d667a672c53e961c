"""The reading room: files on disk -> raw pixels in the manifest's channel order.

`read_patch` and `read_pair` take small files whole; `open_scene` reads rasters of any size window
by window. Nothing is resampled or normalized here; `esccs_edge.pixels.preprocess` does the latter.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec
from ..contracts.values import PatchPair
from ..errors import InputError, RasterError
from .channels import channel_named
from .grid import Grid, require_same_grid
from .npy_file import npy_channels, read_npy

if TYPE_CHECKING:
    from .raster_file import RasterFile

PathLike = str | os.PathLike[str]
Pixels = npt.NDArray[Any]


def read_patch(path: PathLike, spec: ModalitySpec) -> Pixels:
    """Read a whole small raster or ``.npy`` file of one modality.

    Args:
        path: GeoTIFF, PNG or ``.npy``. Band descriptions of a raster decide its channel order;
            without them, and in ``.npy``, the manifest's order counts.
        spec: Contract of the modality.

    Returns:
        ``(C, H, W)`` stored values: integer digital numbers, or float32 in the manifest's unit.
        Pixels that the file declares absent hold ``spec.nodata`` (integers) or NaN (floats).

    Raises:
        RasterError: The file cannot be read, is too large, or its bands do not fit.
    """
    return _read_with_grid(path, spec)[0]


def described_channels(path: PathLike) -> tuple[str | None, ...]:
    """Return which band or polarization each channel of a patch file is, None where not said.

    Raises:
        RasterError: The file cannot be read.
    """
    if Path(path).suffix.lower() == ".npy":
        return (None,) * npy_channels(path)
    from .raster_file import band_descriptions

    return tuple(channel_named(text) for text in band_descriptions(path))


def read_pair(
    optical_path: PathLike | None,
    sar_path: PathLike | None,
    optical: ModalitySpec,
    sar: ModalitySpec,
) -> tuple[Pixels | None, Pixels | None]:
    """Read the two files of one place; None stands for an absent modality.

    Raises:
        InputError: Both are None.
        RasterError: As `read_patch`; or the two differ in size, or, where both are
            georeferenced, in CRS or transform.
    """
    if optical_path is None and sar_path is None:
        raise InputError("neither an optical nor a SAR file was given, expected at least one")
    first = None if optical_path is None else _read_with_grid(optical_path, optical)
    second = None if sar_path is None else _read_with_grid(sar_path, sar)
    if first is not None and second is not None:
        _require_match(first, second)
    return (None if first is None else first[0]), (None if second is None else second[0])


def _read_with_grid(path: PathLike, spec: ModalitySpec) -> tuple[Pixels, Grid | None]:
    if Path(path).suffix.lower() == ".npy":
        return read_npy(path, spec), None
    from .raster_file import open_raster

    with open_raster(path, spec) as raster:
        return raster.read(), raster.grid


def _require_match(optical: tuple[Pixels, Grid | None], sar: tuple[Pixels, Grid | None]) -> None:
    if optical[0].shape[1:] != sar[0].shape[1:]:
        raise RasterError(
            f"optical has height x width {_size(optical[0])} and SAR {_size(sar[0])}, "
            "expected the same",
            hint="Cut both from the same grid",
        )
    grids = optical[1], sar[1]
    if grids[0] is not None and grids[1] is not None:
        if grids[0].is_georeferenced and grids[1].is_georeferenced:
            require_same_grid(grids[0], grids[1])


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[2]}"


class SceneReader:
    """Optical and SAR rasters of one grid, read window by window.

    Calls from several threads are served one after the other.

    Attributes:
        grid: The common pixel grid.
    """

    def __init__(
        self, optical: RasterFile | None, sar: RasterFile | None, manifest: Manifest
    ) -> None:
        present = [raster for raster in (optical, sar) if raster is not None]
        self.grid: Grid = present[0].grid
        self._rasters = (optical, sar)
        self._specs = (manifest.modalities["optical"], manifest.modalities["sar"])
        self._one_at_a_time = threading.Lock()

    def read(self, row: int, column: int, height: int, width: int) -> PatchPair:
        """Read a window; the part beyond the raster's lower and right edges is absent pixels.

        Returns:
            The pair; an absent modality is None.

        Raises:
            RasterError: A file is damaged.
        """
        with self._one_at_a_time:
            optical, sar = (
                None if raster is None else self._window(raster, spec, row, column, height, width)
                for raster, spec in zip(self._rasters, self._specs, strict=True)
            )
        return PatchPair(optical, sar)

    def _window(
        self, raster: RasterFile, spec: ModalitySpec, row: int, column: int, height: int, width: int
    ) -> Pixels:
        inside = min(height, self.grid.height - row), min(width, self.grid.width - column)
        pixels = raster.read(row, column, *inside)
        if inside == (height, width):
            return pixels
        from .raster_file import absent_value

        absent = absent_value(pixels.dtype, spec, f"{raster.path} (smaller than one patch)")
        padded = np.full((len(pixels), height, width), absent, pixels.dtype)
        padded[:, : inside[0], : inside[1]] = pixels
        return padded


@contextmanager
def open_scene(
    optical_path: PathLike | None, sar_path: PathLike | None, manifest: Manifest
) -> Iterator[SceneReader]:
    """Open the rasters of a scene; closed on leaving. Either may be None, not both.

    Raises:
        InputError: Both are None.
        RasterError: A file cannot be opened, its bands do not fit, or the two do not lie on the
            same grid (a partial overlap is refused too).
    """
    if optical_path is None and sar_path is None:
        raise InputError("neither an optical nor a SAR raster was given, expected at least one")
    from .raster_file import MAX_SCENE_BYTES, open_raster

    with ExitStack() as stack:
        optical, sar = (
            None
            if path is None
            else stack.enter_context(open_raster(path, spec, max_bytes=MAX_SCENE_BYTES))
            for path, spec in (
                (optical_path, manifest.modalities["optical"]),
                (sar_path, manifest.modalities["sar"]),
            )
        )
        if optical is not None and sar is not None:
            require_same_grid(optical.grid, sar.grid)
        yield SceneReader(optical, sar, manifest)
