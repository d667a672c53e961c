"""One file per band -> one patch: the layout of Sentinel product folders and of BigEarthNet.

The bands of Sentinel-2 come at 10, 20 and 60 m, so this file resamples, on request and only from
coarse to fine. No other does.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Literal

import numpy as np

from ..contracts.modality import ModalitySpec
from ..contracts.sensors import band_name
from ..contracts.types import Array, PathLike
from ..errors import RasterError
from .channels import narrowed
from .grid import Grid, require_same_ground
from .raster_file import RasterFile, open_raster


def read_band_files(
    files: Mapping[str, PathLike],
    spec: ModalitySpec,
    *,
    fill: Mapping[str, float] | None = None,
    resampling: Literal["nearest", "bilinear"] = "bilinear",
) -> Array:
    """Read single-band rasters of one extent into one patch on the finest of their grids.

    A Level-2A product has no cirrus band B10 and holds surface reflectance, while a model may have
    been trained on Level-1C, top of atmosphere. Nothing here corrects for that: judging L2A pixels
    with an L1C model, and a filled band in particular, gives an answer of unknown quality.

    Args:
        files: Channel name -> file, for example ``{"B02": ..., "B8A": ...}``. Channels the model
            does not need are ignored.
        spec: Contract of the modality.
        fill: Stored value for channels that have no file. Without it a missing channel is refused.
        resampling: How coarser bands reach the finest grid. Absent pixels stay absent either way.

    Returns:
        ``(C, H, W)`` in the manifest's channel order; dtype of the files.

    Raises:
        RasterError: A channel has neither file nor fill, a file cannot be read or holds more than
            one band, or the files do not cover the same ground.
    """
    named = {band_name(name): path for name, path in files.items()}
    filled = {band_name(name): value for name, value in (fill or {}).items()}
    if lacking := [c for c in spec.channels if c not in named and c not in filled]:
        raise RasterError(
            f"no file for {', '.join(lacking)}, expected files for {', '.join(spec.channels)}",
            hint="Pass fill={...} to put a constant there, and expect a less reliable answer",
        )
    wanted = [channel for channel in spec.channels if channel in named]
    if not wanted:
        raise RasterError(f"no file for any of {', '.join(spec.channels)}, expected at least one")
    with ExitStack() as stack:
        rasters = {
            channel: stack.enter_context(open_raster(named[channel], narrowed(spec, [channel])))
            for channel in wanted
        }
        finest = min((raster.grid for raster in rasters.values()), key=lambda g: g.transform.a)
        bands = {c: _on_grid(raster, finest, resampling) for c, raster in rasters.items()}
    return _stacked(bands, filled, spec)


def _stacked(bands: Mapping[str, Array], filled: Mapping[str, float], spec: ModalitySpec) -> Array:
    read = np.stack(list(bands.values()))
    patch = np.empty((len(spec.channels), *read.shape[1:]), read.dtype)
    valid = spec.valid_mask(read)
    for i, channel in enumerate(spec.channels):
        if channel in bands:
            patch[i] = bands[channel]
        else:
            patch[i] = filled[channel]
            if spec.nodata is not None:  # a constant must not make an absent pixel look present
                patch[i, ~valid] = spec.nodata
    return patch


def _on_grid(raster: RasterFile, finest: Grid, resampling: str) -> Array:
    require_same_ground(finest, raster.grid, str(raster.path))
    pixels = raster.read_resized(finest.height, finest.width, resampling)
    return pixels.reshape(finest.height, finest.width)
