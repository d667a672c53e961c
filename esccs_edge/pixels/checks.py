"""Arrays as users hand them in -> a `Sample` the kernels can read, or a clear refusal.

Checks here cost microseconds and look at shape and type only; values are judged after
preprocessing, from its statistics (`radiometry`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import Modalities, ModalitySpec, SampleSpec, modality_title
from ..contracts.sensors import wrong_count_hint
from ..contracts.types import Pixels
from ..contracts.values import DevicePixels, Sample
from ..errors import InputError
from .device_pixels import device_pixels_of
from .host_array import host_array
from .pixel_memory import PixelMemory
from .preprocess import KERNEL_DTYPES
from .series import placed_series

_FLOAT32 = np.dtype(np.float32)

#: Height and width in pixels.
Size = tuple[int, int]


def checked_sample(
    pixels: Mapping[str, Any], manifest: Manifest, memory: PixelMemory | None = None
) -> Sample:
    """Check shapes and types and bring all arrays into the form the kernels take.

    Args:
        pixels: Modality name -> ``(C, H, W)`` array-like in the manifest's channel order, or None
            where the modality is absent; a modality that is not named is absent. A time series is
            ``(C, T, H, W)``, or ``(C, T * H, W)`` with its dates below one another; that of one
            pixel may be ``(C, T)``. An array on the GPU (`device_pixels`) stays there. Under the
            name ``"dates"`` a series may bring its dates; see `series.placed_series`.
        manifest: Contract of the model.
        memory: Where the arrays are copied to. None: those that already fit are not copied.

    Returns:
        The sample, with every modality of the manifest.

    Raises:
        InputError: A modality that the model does not know; a wrong number of axes, channels or
            pixels; or a type that would need a value-changing cast.
    """
    if manifest.sample.dates is not None and "dates" in pixels:
        images = {name: array for name, array in pixels.items() if name != "dates"}
        pixels = placed_series(images, pixels["dates"], manifest)
    return checked_pixels(pixels, manifest.modalities, manifest.sample, memory)


def checked_pixels(
    pixels: Mapping[str, Any],
    modalities: Modalities,
    sample: SampleSpec,
    memory: PixelMemory | None = None,
) -> Sample:
    """Check pixels as `checked_sample` does, against contracts that no model has yet."""
    if not pixels.keys() <= modalities.keys():
        raise InputError(
            f"modalities are {', '.join(pixels)}, expected among {', '.join(modalities)}"
        )
    checked: dict[str, Pixels | None] = {}
    for name, spec in modalities.items():
        image = pixels.get(name)
        checked[name] = (
            None if image is None else _checked(image, modality_title(name), spec, sample, memory)
        )
    return Sample(checked)


def _checked(
    pixels: Any, name: str, spec: ModalitySpec, sample: SampleSpec, memory: PixelMemory | None
) -> Pixels:
    grid = sample.grid
    if (on_gpu := device_pixels_of(pixels, name)) is not None:
        stacked = replace(on_gpu, shape=_stacked(on_gpu.shape, sample))
        return _checked_on_gpu(stacked, name, spec, grid)
    if isinstance(pixels, (str, bytes, os.PathLike, Mapping)):
        raise InputError(
            f"{name} is of type {type(pixels).__name__}, expected an array of pixels",
            hint="Read a file first: esccs_edge.read_patch(path, manifest.modalities[...]); or map "
            "it: classify_scene",
        )
    if not isinstance(pixels, np.ndarray):
        pixels = host_array(pixels, name)
    if sample.dates is not None:
        pixels = pixels.reshape(_stacked(pixels.shape, sample))
    if isinstance(pixels, np.ma.MaskedArray):
        pixels = _filled(pixels, name, spec)
    _check_shape(pixels.shape, name, spec, grid)
    array = np.asarray(pixels)
    wanted = _kernel_dtype(array, name, spec)
    if memory is None:
        flags = array.flags
        if array.dtype == wanted and flags.c_contiguous and flags.aligned:
            return array  # as nearly always
        memory = PixelMemory()
    return memory.copy(array, wanted)


def _stacked(shape: tuple[int, ...], sample: SampleSpec) -> tuple[int, ...]:
    """Return the shape of a time series with its dates below one another; any other as it is.

    Raises:
        InputError: The series has another length than the model reads.
    """
    if sample.dates is None or not 2 <= len(shape) <= 4:
        return shape
    height, width = sample.height, sample.width
    dates = shape[1] // height if len(shape) == 3 else shape[1]
    if dates != sample.dates and (len(shape) != 3 or shape[2] == width):
        raise InputError(
            f"the series has {dates} dates, expected {sample.dates}",
            hint="Give the dates with the images, so that each is put where it belongs"
            if sample.calendar
            else "Leave out or add missing dates (nodata) until they are as many",
        )
    if len(shape) == 2 and (height, width) == (1, 1):
        return shape[0], dates, 1
    if len(shape) == 4 and shape[2:] == (height, width):
        return shape[0], dates * height, width
    return shape


def _checked_on_gpu(
    pixels: DevicePixels, name: str, spec: ModalitySpec, grid: Size
) -> DevicePixels:
    _check_shape(pixels.shape, name, spec, grid)
    _require_digital_numbers(pixels.dtype, name, spec)
    wanted = (np.float32,) if spec.dn_scale is None else KERNEL_DTYPES
    if pixels.dtype not in wanted:
        names = ", ".join(np.dtype(dtype).name for dtype in wanted)
        raise InputError(f"{name} on the GPU has dtype {pixels.dtype}, expected one of {names}")
    return pixels


def _check_shape(found: tuple[int, ...], name: str, spec: ModalitySpec, grid: Size) -> None:
    expected = (len(spec.channels), *grid)
    if found != expected:
        raise InputError(
            f"{name} has shape {found}, expected {expected}",
            hint=_shape_hint(found, expected, spec),
        )


def _shape_hint(found: tuple[int, ...], expected: tuple[int, int, int], spec: ModalitySpec) -> str:
    channels, height, width = expected
    names = ", ".join(spec.channels)
    if len(found) != 3:
        return f"Pass one patch as (channels, height, width); channels are {names}"
    if found[2] == channels and found[0] != channels:
        return "The channels come last; pass array.transpose(2, 0, 1)"
    if found[0] != channels:
        hint = wrong_count_hint(found[0], spec.channels)
        return f"Channels must be {names}, in this order. {hint}".strip()
    smaller = found[1] < height or found[2] < width
    way = (
        "fill smaller ones up with nodata"
        if smaller
        else "larger rasters are for `classify_scene or segment_scene`"
    )
    return f"This bundle judges {height} x {width} pixels; {way}"


def _kernel_dtype(pixels: npt.NDArray[Any], name: str, spec: ModalitySpec) -> np.dtype[Any]:
    kind = pixels.dtype.kind
    _require_digital_numbers(pixels.dtype, name, spec)
    if kind == "f":
        return _FLOAT32
    if kind in "iu" and spec.dn_scale is None:
        unit = "linear sigma0" if spec.is_linear else spec.unit
        raise InputError(
            f"{name} has integer dtype {pixels.dtype}, expected float32 in {unit}",
            hint=_integer_hint(pixels, unit),
        )
    if kind in "iu":
        return _integer_dtype(pixels, name)
    raise InputError(
        f"{name} has dtype {pixels.dtype}, expected integers (DN) or float {spec.unit}"
    )


def _integer_hint(pixels: npt.NDArray[Any], unit: str) -> str:
    if pixels.min(initial=0) < 0:
        return (
            "If these are dB times a factor, such as dB * 100, divide them as float32, or set the "
            "scale tag of their file, such as 0.01"
        )
    return (
        f"If these are digital numbers of a product, calibrate them to {unit} first; if they are "
        "scaled, divide them as float32, or set the scale tag of their file"
    )


def _require_digital_numbers(dtype: np.dtype[Any], name: str, spec: ModalitySpec) -> None:
    if dtype.kind == "f" and spec.stored_unit == "dn":
        raise InputError(
            f"`dn_offset` is {spec.dn_offset:g}, but {name} pixels are {dtype}, expected digital "
            "numbers as integers",
            hint="It is added to digital numbers only. Leave it out where floats, or the scale and "
            "offset tags of a file, give reflectance already",
        )


def _integer_dtype(pixels: npt.NDArray[Any], name: str) -> np.dtype[Any]:
    native = pixels.dtype.newbyteorder("=")
    if native.type in KERNEL_DTYPES:
        return native
    if pixels.dtype.itemsize <= 2:  # int8
        return np.dtype(np.int16)
    low, high = int(pixels.min()), int(pixels.max())
    for candidate in (np.uint16, np.int16):
        if np.iinfo(candidate).min <= low and high <= np.iinfo(candidate).max:
            return np.dtype(candidate)
    raise InputError(
        f"{name} has {pixels.dtype} values {low}..{high}, expected 16-bit digital numbers"
    )


def _filled(pixels: np.ma.MaskedArray[Any, Any], name: str, spec: ModalitySpec) -> Any:
    """A pixel masked in any channel becomes nodata in all of them."""
    if pixels.ndim != 3 or not np.ma.is_masked(pixels):
        return pixels.data
    dtype = pixels.dtype
    if dtype.kind not in "iuf":
        return pixels.data  # refused for its type
    absent = np.nan if dtype.kind == "f" else spec.nodata
    if dtype.kind != "f" and not _is_value_of(dtype, absent):
        raise InputError(
            f"{name} is a masked array of {dtype}, expected floats, since the bundle's nodata "
            f"value is {'missing' if absent is None else f'{absent:g}'}",
            hint="Fill it yourself, or convert it",
        )
    data = pixels.data.copy()
    data[:, np.ma.getmaskarray(pixels).any(axis=0)] = absent
    return data


def _is_value_of(dtype: np.dtype[Any], value: float | None) -> bool:
    limits = np.iinfo(dtype)
    return value is not None and limits.min <= value <= limits.max and float(value).is_integer()
