"""Images with dates -> a series in the slots of a model's calendar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..contracts.calendar import as_days
from ..contracts.manifest import Manifest
from ..contracts.modality import modality_title
from ..contracts.types import Array
from ..errors import InputError
from .host_array import host_array

#: Dates of all sensors, or sensor -> its dates.
Dates = Sequence[Any] | Mapping[str, Sequence[Any]]


def placed_series(
    pixels: Mapping[str, Any], dates: Dates | None, manifest: Manifest
) -> dict[str, Any]:
    """Put the images of each sensor where their dates belong.

    Slots without an image are missing. Of two images in one slot, each pixel keeps the later one in
    which it is valid.

    Args:
        pixels: Sensor -> ``(C, n, H, W)``, or ``(C, n)`` of one pixel, n images; or None.
        dates: n dates, sorted: ``datetime.date``, ``datetime64`` or ``"YYYY-MM-DD"``; sensor ->
            dates where sensors were not there on the same days. None: the series are in the
            slots of the calendar already.
        manifest: Contract of the model.

    Returns:
        Sensor -> ``(C, T, H, W)`` (or ``(C, T)``), or None.

    Raises:
        InputError: Dates are not sorted, double, out of the season, or not as many as images; the
            bundle has no calendar; or an array is of no use.
    """
    if dates is None:
        return dict(pixels)
    calendar = manifest.sample.calendar
    if calendar is None:
        raise InputError(
            "dates are given, but the bundle has no calendar",
            hint=f"Give a series of {manifest.sample.dates} images in the order of its training",
        )
    there = [name for name in manifest.modalities if pixels.get(name) is not None]
    if not there:
        return dict(pixels)
    days = {name: as_days(_dates_of(name, dates)) for name in there}
    season = calendar.season(min(found[0] for found in days.values()))
    placed = dict(pixels)
    for name in there:
        images = _on_host(pixels[name], name)
        if images.ndim not in (2, 4) or images.shape[1] != len(days[name]):
            one_pixel = (manifest.sample.height, manifest.sample.width) == (1, 1)
            grid = "" if one_pixel else ", height, width"
            raise InputError(
                f"{modality_title(name)} has shape {images.shape} with {len(days[name])} dates, "
                f"expected (channels, dates{grid})",
                hint="Give one date for each image, in their order",
            )
        slots = calendar.slots(days[name], season)
        nodata = manifest.modalities[name].nodata
        placed[name] = in_slots(images, slots.tolist(), len(calendar.starts), nodata)
    return placed


def in_slots(images: Array, slots: Sequence[int], count: int, nodata: float | None) -> Array:
    """Put images ``(C, n, ...)`` into ``count`` slots; of two in one slot the later valid one wins.

    Args:
        images: A pixel is valid where all its channels are finite and not all are nodata.
        slots: Slot of each image.
        count: Slots.
        nodata: Stored value of absent pixels; integers need one.

    Returns:
        ``(C, count, ...)``; a slot without a valid pixel holds nodata, or NaN where floats are
        stored.
    """
    is_float = images.dtype.kind == "f"
    if not is_float and nodata is None:
        raise InputError(
            f"images are {images.dtype}, but the bundle has no nodata value for missing dates",
            hint="Give floating-point images, with NaN at absent pixels",
        )
    absent = np.nan if is_float else nodata
    found = np.full((len(images), count, *images.shape[2:]), absent, images.dtype)
    for image, slot in zip(np.moveaxis(images, 1, 0), slots, strict=True):
        valid = np.isfinite(image).all(axis=0) if is_float else np.True_
        if nodata is not None:
            valid = valid & ~(image == nodata).all(axis=0)
        found[:, slot] = np.where(valid, image, found[:, slot])
    return found


def _dates_of(name: str, dates: Dates) -> Sequence[Any]:
    if not isinstance(dates, Mapping):
        return dates
    if name not in dates:
        raise InputError(
            f"dates are given for {', '.join(dates) or 'no sensor'}, expected those of {name} too"
        )
    return dates[name]


def _on_host(images: Any, name: str) -> Array:
    if isinstance(images, np.ma.MaskedArray):
        raise InputError(
            f"{modality_title(name)} is a masked array with dates, expected a plain one",
            hint="Fill it with nodata, or NaN",
        )
    hint = "Images with dates are put in order on the host"
    array = host_array(images, modality_title(name), hint=hint)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{modality_title(name)} has dtype {array.dtype}, expected numbers")
    return array
