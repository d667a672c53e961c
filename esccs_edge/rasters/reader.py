"""Files on disk -> raw pixels in the manifest's channel order.

`read_patch` and `read_sample` take small files whole; `open_scene` reads rasters of any size window
by window. Nothing is resampled or normalized here; `esccs_edge.pixels.preprocess` does the latter.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..contracts.arguments import require_path
from ..contracts.modality import Modalities, ModalitySpec, modality_title
from ..contracts.types import Array, PathLike
from ..errors import InputError, RasterError
from .band_words import channels_named
from .grid import Grid, require_same_grid
from .npy_file import npy_channels, read_npy

if TYPE_CHECKING:
    from .raster_file import RasterFile

#: Modality name -> file, or None where the modality is absent; one not named is absent too.
SamplePaths = Mapping[str, PathLike | None]


def read_patch(path: PathLike, spec: ModalitySpec) -> Array:
    """Read a whole small raster or ``.npy`` file of one modality.

    Args:
        path: GeoTIFF, PNG or ``.npy``. Band descriptions of a raster decide its channel order;
            without them, and in ``.npy``, the manifest's order counts.
        spec: Contract of the modality, such as ``classifier.manifest.modalities["optical"]``.

    Where it lies is not looked at; `read_sample` compares the files of a pair.

    Returns:
        ``(C, H, W)`` stored values: integer digital numbers, or float32 in the manifest's unit.
        Pixels that the file declares absent hold ``spec.nodata`` (integers) or NaN (floats).

    Raises:
        RasterError: The file cannot be read, is too large, or its bands do not fit.
    """
    return _read_with_grid(path, spec)[0]


def described_channels(path: PathLike) -> tuple[str | None, ...]:
    """Return the band or polarization of each channel of a patch file, None where not named.

    Raises:
        RasterError: The file cannot be read.
    """
    if Path(path).suffix.lower() == ".npy":
        return (None,) * npy_channels(path)
    from .raster_file import band_descriptions

    return tuple(channels_named(band_descriptions(path)))


def read_sample(
    paths: SamplePaths, modalities: Modalities, pixel_size_m: float | None = None
) -> dict[str, Array | None]:
    """Read the files of one sample, such as of a pair, and see that they fit each other.

    Args:
        paths: Modality name -> file as for `read_patch`, or None where the modality is absent.
        modalities: Contract of each modality: ``classifier.manifest.modalities``.
        pixel_size_m: Meters per pixel that the model knows, ``manifest.sample.pixel_size_m``; None
            does not ask.

    Returns:
        Pixels of every modality, in the order of ``modalities``; None where it is absent.

    Raises:
        InputError: No file, or one of a modality that is not known.
        RasterError: As `read_patch`; or two rasters do not lie on the same pixels, or only one says
            where it lies (``.npy`` cannot); or pixels are much larger or smaller than
            ``pixel_size_m``.
    """
    given = given_paths(paths, modalities)
    read = {name: _read_with_grid(path, modalities[name]) for name, path in given.items()}
    for first, second in combinations(read, 2):
        _require_match(read[first], read[second], _titles(first, second))
    _require_pixel_size({name: grid for name, (_, grid) in read.items()}, pixel_size_m)
    return {name: read[name][0] if name in read else None for name in modalities}


def require_place_of(path: PathLike, image: PathLike) -> None:
    """Refuse a file of labels, or another image, that lies elsewhere than an image does.

    Files that do not say where they lie pass.

    Raises:
        RasterError: Both say it and differ; or one cannot be read, or is not on a north-up grid.
    """
    if any(Path(file).suffix.lower() == ".npy" for file in (path, image)):
        return
    with _loading():
        from .raster_file import grid_of_file
    own, grid = grid_of_file(path), grid_of_file(image)
    if own.is_georeferenced and grid.is_georeferenced:
        require_same_grid(grid, own, (str(image), str(path)))


def given_paths(paths: SamplePaths, modalities: Iterable[str]) -> dict[str, PathLike]:
    """Return the files that are there, in the order of ``modalities``.

    Raises:
        InputError: No file, or one of a modality that is not known.
    """
    names = list(modalities)
    if unknown := [name for name, path in paths.items() if name not in names and path is not None]:
        raise InputError(
            f"files are given for {', '.join(unknown)}, expected among {', '.join(names)}",
            hint="Name each file by its modality in `paths`",
        )
    given = {name: path for name in names if (path := paths.get(name)) is not None}
    if not given:
        raise InputError(f"{no_file_of(names)} was given, expected at least one")
    return given


def no_file_of(modalities: Iterable[str]) -> str:
    """Return ``"neither optical nor SAR file"``, or ``"no radar file"`` for a single modality."""
    first, *others = map(modality_title, modalities)
    return " nor ".join([f"{'neither' if others else 'no'} {first}", *others]) + " file"


def _read_with_grid(path: PathLike, spec: ModalitySpec) -> tuple[Array, Grid | None]:
    require_path("path", path)
    if Path(path).suffix.lower() == ".npy":
        return read_npy(path, spec), None
    with _loading():
        from .raster_file import open_raster

    with open_raster(path, spec) as raster:
        return raster.read(), raster.grid


def _require_match(
    first: tuple[Array, Grid | None], second: tuple[Array, Grid | None], names: tuple[str, str]
) -> None:
    if first[0].shape[1:] != second[0].shape[1:]:
        raise RasterError(
            f"{names[0]} has height x width {_size(first[0])} and {names[1]} {_size(second[0])}, "
            "expected the same",
            hint="Cut both from the same grid",
        )
    if first[1] is not None and second[1] is not None:
        require_same_grid(first[1], second[1], names)


def _require_pixel_size(grids: Mapping[str, Grid | None], expected_m: float | None) -> None:
    for name, grid in grids.items():
        if grid is not None and expected_m is not None:
            from .pixel_size import require_pixel_size

            require_pixel_size(grid, expected_m, modality_title(name))


def _titles(first: str, second: str) -> tuple[str, str]:
    return modality_title(first), modality_title(second)


def _size(pixels: Array) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[2]}"


class SceneReader:
    """The rasters of a scene, all on one grid, read window by window.

    Calls from several threads are served one after the other.

    Args:
        rasters: Modality name -> open raster, at least one.
        modalities: Contract of each modality.

    Attributes:
        grid: The common pixel grid.
    """

    def __init__(self, rasters: Mapping[str, RasterFile], modalities: Modalities) -> None:
        self.grid: Grid = next(iter(rasters.values())).grid
        self._rasters = rasters
        self._modalities = modalities
        self._one_at_a_time = threading.Lock()

    def read(self, row: int, column: int, height: int, width: int) -> dict[str, Array | None]:
        """Read a window; the part beyond the raster's lower and right edges is absent pixels.

        Returns:
            ``(C, height, width)`` of every modality; None where it is absent.

        Raises:
            RasterError: A file is damaged.
        """
        with self._one_at_a_time:
            found = {
                name: padded_window(raster, self._modalities[name], row, column, height, width)
                for name, raster in self._rasters.items()
            }
        return {name: found.get(name) for name in self._modalities}


def padded_window(
    raster: RasterFile, spec: ModalitySpec, row: int, column: int, height: int, width: int
) -> Array:
    """Read a window; the part beyond the raster's lower and right edges is absent pixels.

    Raises:
        RasterError: The file is damaged.
    """
    inside = min(height, raster.grid.height - row), min(width, raster.grid.width - column)
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
    paths: SamplePaths, modalities: Modalities, pixel_size_m: float | None = None
) -> Iterator[SceneReader]:
    """Open the rasters of a scene; closed on leaving.

    Args:
        paths: Modality name -> raster; at least one.
        modalities: Contract of each modality.
        pixel_size_m: Ground size of a pixel that the model knows; None does not ask.

    Raises:
        InputError: No raster, or one of a modality that is not known.
        RasterError: A file cannot be opened, its bands do not fit, or two do not lie on the same
            grid (a partial overlap is refused too), or pixels are much larger or smaller than
            ``pixel_size_m``.
    """
    given = given_paths(paths, modalities)
    with _loading():
        from .gdal import bounded_cache
        from .raster_file import MAX_SCENE_BYTES, open_raster

    with bounded_cache(), ExitStack() as stack:
        rasters = {
            name: stack.enter_context(
                open_raster(path, modalities[name], max_bytes=MAX_SCENE_BYTES)
            )
            for name, path in given.items()
        }
        first, *others = rasters
        for other in others:
            require_same_grid(rasters[first].grid, rasters[other].grid, _titles(first, other))
        _require_pixel_size({name: raster.grid for name, raster in rasters.items()}, pixel_size_m)
        yield SceneReader(rasters, modalities)


@contextmanager
def _loading() -> Iterator[None]:
    """Say what is wrong where a process has no file left to read a module from."""
    try:
        yield
    except OSError as error:
        raise RasterError(
            f"what reads rasters cannot be loaded: {error.strerror}",
            hint="Close files, or allow this process more of them (ulimit -n)",
        ) from error
