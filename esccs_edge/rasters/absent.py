"""Which pixels a raster file marks absent: by a mask, by an alpha band, by a nodata tag.

Beyond these, a floating-point number that no instrument measures is absent too, whatever the tag
says: writers round their mark (``-3.4e38`` for ``-3.4028235e38``) or leave the tag out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.modality import ModalitySpec
from ..contracts.types import Array, Mask
from ..errors import RasterError
from .band_words import KNOWN, channels_named
from .gdal import ColorInterp, MaskFlags, Resampling, Window

#: Size beyond which a float is a mark and no measurement; marks in use begin at 1e20.
BEYOND_MEASUREMENT = 1e15
#: Share of pixels that may lie between full and none in an alpha band, as at smoothed edges.
BETWEEN_SHARE = 0.1


def data_bands(dataset: Any, path: Path) -> list[int]:
    """Return the numbers of the bands that hold measurements; an alpha band is a mask instead.

    A band that its description names is a measurement, whatever else the file calls it.

    Raises:
        RasterError: The file stores colors of a palette.
    """
    if ColorInterp.palette in dataset.colorinterp:
        raise RasterError(
            f"{path} stores colors of a palette, expected measured values in every band"
        )
    alpha = alpha_bands(dataset)
    return [band for band in dataset.indexes if band not in alpha]


def alpha_bands(dataset: Any) -> list[int]:
    """Return the numbers of the bands that say which pixels are there."""
    named = channels_named(dataset.descriptions)
    return [
        band
        for band, meaning, name in zip(dataset.indexes, dataset.colorinterp, named, strict=True)
        if meaning == ColorInterp.alpha and name not in KNOWN
    ]


def absent_pixels(
    dataset: Any,
    stored: Array,
    bands: Sequence[int],
    spec: ModalitySpec,
    path: Path,
    window: Window | None,
    resampling: Resampling,
) -> Mask | None:
    """Return the pixels ``(H, W)`` that the file marks absent; None where it marks none.

    Args:
        dataset: The open file.
        stored: ``(C, H, W)`` as read from ``bands``.
        bands: Their numbers.
        spec: Contract of the modality. Its own nodata value keeps its meaning, absent only where
            every channel has it: a single one may well hold it by measurement (0 in cirrus).
        path: Of the file, for errors.
        window: What was read.
        resampling: How it was resampled.

    Raises:
        RasterError: A band is called alpha, but holds values as a measurement does.
    """
    shape = stored.shape[1:]
    found: list[Mask] = []
    for band in alpha_bands(dataset):
        alpha = dataset.read(band, window=window, out_shape=shape, resampling=resampling)
        _require_mask(alpha, band, path)
        found.append(alpha == 0)
    flags = dataset.mask_flag_enums[bands[0] - 1]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        found.append(dataset.read_masks(bands[0], window=window, out_shape=shape) == 0)
    for pixels, band in zip(stored, bands, strict=True):
        value = dataset.nodatavals[band - 1]
        if value is not None and not np.isnan(value) and value != spec.nodata:
            found.append(_equals(pixels, value))
        if pixels.dtype.kind == "f" and (beyond := _beyond(pixels)).any():
            found.append(beyond)
    return np.logical_or.reduce(found) if found else None


def _equals(pixels: Array, value: float) -> Mask:
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a tag in double precision, of pixels in single
            return np.asarray(pixels == pixels.dtype.type(value))
    return np.asarray(pixels == value)


def _beyond(pixels: Array) -> Mask:
    with np.errstate(invalid="ignore"):  # a signaling NaN
        return np.asarray(np.abs(pixels) > BEYOND_MEASUREMENT)


def _require_mask(alpha: Array, band: int, path: Path) -> None:
    between = (alpha > 0) & (alpha < alpha.max())
    if between.mean() > BETWEEN_SHARE:
        raise RasterError(
            f"{path} calls band {band} alpha, but {between.mean():.0%} of its values lie between "
            f"0 and {alpha.max()}, expected a mask",
            hint="Writers take a fourth 8-bit band for alpha: describe that band by its name, or "
            "write the file again with ALPHA=NO and PHOTOMETRIC=MINISBLACK",
        )
