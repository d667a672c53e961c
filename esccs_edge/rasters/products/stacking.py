"""Products of any grid -> one raster per modality, all on one grid, as the model reads them.

Rows of windows are read, brought to the grid and written, so that memory does not grow with the
scene. What comes out is read like any other pair of rasters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...contracts.manifest import Manifest
from ...contracts.modality import Modalities, ModalitySpec, modality_title
from ...contracts.types import Array, Floats, PathLike, Progress
from ...errors import RasterError
from ...system.path_text import path_text, shown_text
from ...system.working_folder import working_folder
from ..gdal import Resampling, Window, gdal_errors, rasterio, reproject
from ..grid import Grid, require_same_grid
from ..pixel_size import LARGEST_FACTOR, ground_size_m
from ..reader import SamplePaths, given_paths
from .network import network_options
from .opener import open_product
from .product import NOTHING_STATED, Band, Product, Stating, reflectance_as_stored
from .sources import open_band, read_errors
from .target_grid import bounds_in_degrees, grid_for, overlaps, part_of

#: Rows and columns brought to the grid at once: a block of a Sentinel-2 image.
WINDOW_PX = 1024
#: Decoded blocks that GDAL keeps: a row of blocks of all bands, so that none is decoded twice.
_CACHE_BYTES = 256 << 20
_BLOCK_PX = 256
#: Pixels may be so many times as large as the model's: 60 m where it reads 10 m.
COARSEST_FACTOR = 6.5


@dataclass(frozen=True)
class Stacked:
    """What stacking made.

    Attributes:
        paths: Modality name -> raster, all on one grid.
        grid: That grid.
        products: What each was made of.
        valid: Modality name -> share of pixels that hold data.
    """

    paths: Mapping[str, Path]
    grid: Grid
    products: Mapping[str, Product]
    valid: Mapping[str, float]

    @property
    def days_apart(self) -> float | None:
        """Days between the first and the last acquisition; None unless all of two are known."""
        dates = [product.acquired for product in self.products.values()]
        known = [date for date in dates if date is not None]
        if len(known) < 2 or len(known) < len(dates):
            return None
        return (max(known) - min(known)).total_seconds() / 86_400


def stack_products(
    paths: SamplePaths,
    manifest: Manifest,
    folder: PathLike,
    *,
    stating: Stating = NOTHING_STATED,
    grid: Grid | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Stacked:
    """Bring the products of one scene to one grid.

    Reflectance is resampled bilinearly as stored, backscatter as power. The rasters are named
    ``optical.tif`` and ``sar.tif`` after their modalities and appear whole or not at all. Pixels
    are as the manifest reads them: digital numbers of its scale and offset, and dB.

    Args:
        paths: Modality name -> what `esccs_edge.rasters.products.opener.open_product` reads.
        manifest: Contract of the model.
        folder: Where to write; made if missing.
        stating: What is known of inputs without metadata.
        grid: Grid to take; None is that of the optical image at the model's pixel size.
        overwrite: Replace existing files.
        progress: Called with (windows done, windows in all).

    Raises:
        InputError: No input, or of an unknown modality.
        RasterError: A product cannot be read, is not what the model reads, or lies elsewhere than
            the others; or the rasters cannot be written.
    """
    given = given_paths(paths, manifest.modalities)
    out = {name: Path(folder) / f"{name}.tif" for name in given}
    _require_free(out, given, overwrite=overwrite)
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, **network_options(remote=stating.remote)):
        products = {
            name: open_product(path, name, manifest.modalities[name], stating)
            for name, path in given.items()
        }
        bands = {name: products[name].picked(manifest.modalities[name]) for name in given}
        grid = grid or _optical_grid(bands, products, manifest)
        pixel_m = manifest.sample.pixel_size_m
        products = {name: _with_detail(products[name], bands[name], pixel_m) for name in given}
        Path(folder).mkdir(parents=True, exist_ok=True)
        with working_folder(next(iter(out.values()))) as working:
            run = _Run(grid, manifest.modalities, progress, len(given))
            valid = {
                name: run.write(working / out[name].name, name, products[name], bands[name])
                for name in given
            }
            for path in out.values():
                os.replace(working / path.name, path)
    return Stacked(out, grid, products, valid)


def _require_free(
    out: Mapping[str, Path], given: Mapping[str, PathLike], *, overwrite: bool
) -> None:
    for path in out.values():
        if any(path.resolve() == Path(source).resolve() for source in given.values()):
            raise RasterError(
                f"output {path} is also an input", hint="Choose another folder; inputs are kept"
            )
        if path.is_dir() or (path.exists() and not overwrite):
            raise RasterError(
                f"output {path} already exists", hint="Pass `overwrite=True` to replace it"
            )


def _optical_grid(
    bands: Mapping[str, tuple[Band, ...]], products: Mapping[str, Product], manifest: Manifest
) -> Grid:
    for name, found in bands.items():
        if manifest.modalities[name].unit != "reflectance":
            continue
        with ExitStack() as stack:
            datasets = [stack.enter_context(open_band(band))[0] for band in found]
            finest = min(datasets, key=lambda dataset: abs(dataset.transform.a))
            return grid_for(finest, manifest.sample.pixel_size_m, products[name].name)
    raise RasterError(
        "there is no optical product, whose grid the others are brought to",
        hint="Name a raster whose grid to take with --grid",
    )


def _with_detail(product: Product, bands: tuple[Band, ...], pixel_m: float) -> Product:
    """Note pixels that are much coarser than the model's; detail is not made by resampling.

    Raises:
        RasterError: They are coarser than the coarsest bands of Sentinel-2 are.
    """
    with ExitStack() as stack:
        datasets = [stack.enter_context(open_band(band))[0] for band in bands]
        sizes = [ground_size_m(Grid(d.crs, d.transform, d.height, d.width)) for d in datasets]
    finest = min((max(size) for size in sizes if size is not None), default=0.0)
    if finest > COARSEST_FACTOR * pixel_m:
        raise RasterError(
            f"{product.name} has pixels of {finest:.3g} m on the ground, expected {pixel_m:g} m",
            hint=f"Take a product of finer pixels; up to {COARSEST_FACTOR * pixel_m:g} m are taken",
        )
    if finest <= LARGEST_FACTOR * pixel_m:
        return product
    note = f"pixels of {finest:.3g} m, coarser than the {pixel_m:g} m that the model knows"
    return replace(product, notes=(*product.notes, note))


class _Run:
    """Writes one modality after the other onto one grid."""

    def __init__(
        self, grid: Grid, modalities: Modalities, progress: Progress | None, count: int
    ) -> None:
        self._grid = grid
        self._modalities = modalities
        self._progress = progress
        self._windows = list(_windows(grid))
        self._done, self._in_all = 0, len(self._windows) * count

    def write(self, path: Path, name: str, product: Product, bands: tuple[Band, ...]) -> float:
        """Write the raster of one modality and return the share of pixels that hold data."""
        spec, valid = self._modalities[name], 0
        with ExitStack() as stack:
            opened = [_OnGrid(*stack.enter_context(open_band(band)), band) for band in bands]
            for band in opened:
                band.require_overlap(self._grid, product.name)
            with _write_errors(path):
                out = stack.enter_context(_new_raster(path, self._grid, spec))
                _describe(out, spec, product)
            for window in self._windows:
                values = np.stack([band.read(self._grid, window) for band in opened])
                pixels = _as_stored(values, spec, product)
                valid += int(spec.valid_mask(pixels).sum())
                with _write_errors(path):
                    out.write(pixels, window=window)
                self._done += 1
                if self._progress is not None:
                    self._progress(self._done, self._in_all)
            with _write_errors(path):
                stack.close()
        if valid == 0:
            raise RasterError(
                f"{product.name} has no data where the {modality_title(name)} image is wanted",
                hint="Choose products whose images overlap, not only their outlines",
            )
        return valid / (self._grid.height * self._grid.width)


class _OnGrid:
    """One band, read on another grid than its own."""

    def __init__(self, dataset: Any, number: int, nodata: float, band: Band) -> None:
        self._dataset = dataset
        self._number = number
        self._nodata = nodata
        self._band = band

    def require_overlap(self, grid: Grid, name: str) -> None:
        """Refuse a product that lies elsewhere, before any time is spent.

        Raises:
            RasterError: Outlines do not meet.
        """
        if not overlaps(grid, bounds := bounds_in_degrees(self._dataset, name)):
            west, south, east, north = bounds
            raise RasterError(
                f"{name} lies at {west:.3f} to {east:.3f} degrees east, {south:.3f} to "
                f"{north:.3f} north, beside the grid that is wanted",
                hint="Choose products of one place",
            )

    def read(self, grid: Grid, window: Window) -> Floats:
        """Return values ``(height, width)`` of a window of the grid, NaN where absent."""
        with read_errors(self._band.file):
            if self._is_on(grid):
                stored = self._dataset.read(self._number, window=window).astype(np.float32)
                stored[stored == np.float32(self._nodata)] = np.nan
            else:
                stored = self._resampled(part_of(grid, *_shape(window)))
        if self._band.unit == "reflectance":
            return np.asarray(stored * self._band.scale + self._band.offset, np.float32)
        return np.where(stored > 0, stored, np.float32(np.nan))

    def _is_on(self, grid: Grid) -> bool:
        dataset = self._dataset
        own = Grid(dataset.crs, dataset.transform, dataset.height, dataset.width)
        try:
            require_same_grid(grid, own, ("", ""))
        except RasterError:
            return False
        return True

    def _resampled(self, part: Grid) -> Floats:
        """Warp onto a part of the grid.

        A `WarpedVRT` of a given grid ignores control points, and their polynomial is off by a few
        pixels over a swath, so the warper is called itself and splines go through the points.
        """
        values = np.full((part.height, part.width), np.nan, np.float32)
        placed_by_points = {"SRC_METHOD": "GCP_TPS"} if self._dataset.crs is None else {}
        reproject(
            rasterio.band(self._dataset, self._number),
            values,
            dst_transform=part.transform,
            dst_crs=part.crs,
            src_nodata=self._nodata,
            dst_nodata=np.nan,
            resampling=Resampling.bilinear,
            **placed_by_points,
        )
        return values


def _as_stored(values: Floats, spec: ModalitySpec, product: Product) -> Array:
    """Return values as the model's contract stores them, with its mark of absent pixels."""
    absent = ~np.isfinite(values)
    if product.zero_is_absent:
        absent[:] = absent.any(axis=0)
    if spec.unit == "dB":
        with np.errstate(invalid="ignore", divide="ignore"):
            decibels = 10 * np.log10(values)
        return spec.stored_floats(decibels)
    if spec.dn_scale is None:
        return np.where(absent, np.float32(np.nan), values)
    pixels = reflectance_as_stored(np.where(absent, 0, values), spec, np.uint16)
    pixels[absent] = 0 if spec.nodata is None else spec.nodata
    return pixels


@contextmanager
def _new_raster(path: Path, grid: Grid, spec: ModalitySpec) -> Iterator[Any]:
    integers = spec.unit == "reflectance" and spec.dn_scale is not None
    with rasterio.open(
        path_text(path),
        "w",
        driver="GTiff",
        height=grid.height,
        width=grid.width,
        count=len(spec.channels),
        dtype="uint16" if integers else "float32",
        crs=grid.crs,
        transform=grid.transform,
        nodata=spec.nodata if integers else float("nan"),
        tiled=True,
        blockxsize=_BLOCK_PX,
        blockysize=_BLOCK_PX,
        compress="deflate",
        zlevel=1,
        predictor=2 if integers else 3,
        interleave="band",
        bigtiff="if_safer",
    ) as dataset:
        yield dataset


def _describe(dataset: Any, spec: ModalitySpec, product: Product) -> None:
    dataset.descriptions = spec.channels
    if spec.unit == "dB":
        dataset.units = (spec.stored_unit or spec.unit,) * len(spec.channels)
    known = {
        "SOURCE": shown_text(product.name),
        "LEVEL": product.level,
        "ACQUIRED": product.acquired and product.acquired.isoformat(),
        "BASELINE": product.baseline,
        "NOTES": shown_text("; ".join(product.notes)),
    }
    dataset.update_tags(**{key: value for key, value in known.items() if value})


def _windows(grid: Grid) -> Iterator[Window]:
    for row in range(0, grid.height, WINDOW_PX):
        for column in range(0, grid.width, WINDOW_PX):
            yield Window(
                column,
                row,
                min(WINDOW_PX, grid.width - column),
                min(WINDOW_PX, grid.height - row),
            )


def _shape(window: Window) -> tuple[int, int, int, int]:
    return window.row_off, window.col_off, window.height, window.width


def _write_errors(path: Path) -> Any:
    return gdal_errors(
        f"cannot write {path.name}", hint="Check free space and permissions; nothing was replaced"
    )
