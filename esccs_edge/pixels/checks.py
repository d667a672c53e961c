"""Arrays as users hand them in -> a `Sample` the kernels can read, or a clear refusal.

Checks here cost microseconds and look at shape and type only; values are judged after
preprocessing, from its statistics (`radiometry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec, modality_title
from ..contracts.types import Pixels
from ..contracts.values import DevicePixels, Sample
from ..errors import InputError
from .device_pixels import device_pixels_of
from .pixel_memory import PixelMemory
from .preprocess import KERNEL_DTYPES

_FLOAT32 = np.dtype(np.float32)

#: Height and width in pixels.
Size = tuple[int, int]


def checked_sample(
    pixels: Mapping[str, Any], manifest: Manifest, memory: PixelMemory | None = None
) -> Sample:
    """Check shapes and types and bring all arrays into the form the kernels take.

    Args:
        pixels: Modality name -> ``(C, H, W)`` array-like in the manifest's channel order, or None
            where the modality is absent; a modality that is not named is absent. An array on the
            GPU (`device_pixels`) stays there.
        manifest: Contract of the model.
        memory: Where the arrays are copied to. None: those that already fit are not copied.

    Returns:
        The sample, with every modality of the manifest.

    Raises:
        InputError: A modality that the model does not know; a wrong number of axes, channels or
            pixels; or a type that would need a value-changing cast.
    """
    specs = manifest.modalities
    if not pixels.keys() <= specs.keys():
        raise InputError(f"modalities are {', '.join(pixels)}, expected among {', '.join(specs)}")
    grid = manifest.sample.height, manifest.sample.width
    checked: dict[str, Pixels | None] = {}
    for name, spec in specs.items():
        image = pixels.get(name)
        checked[name] = (
            None if image is None else _checked(image, modality_title(name), spec, grid, memory)
        )
    return Sample(checked)


def _checked(
    pixels: Any, name: str, spec: ModalitySpec, grid: Size, memory: PixelMemory | None
) -> Pixels:
    if (on_gpu := device_pixels_of(pixels, name)) is not None:
        return _checked_on_gpu(on_gpu, name, spec, grid)
    if isinstance(pixels, np.ma.MaskedArray):
        pixels = _filled(pixels, name, spec)
    elif not isinstance(pixels, np.ndarray):
        try:
            pixels = np.asarray(pixels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{name} cannot be read as an array: {error}") from error
    _check_shape(pixels.shape, name, spec, grid)
    array = np.asarray(pixels)
    wanted = _kernel_dtype(array, name, spec)
    if memory is None:
        flags = array.flags
        if array.dtype == wanted and flags.c_contiguous and flags.aligned:
            return array  # as nearly always
        memory = PixelMemory()
    return memory.copy(array, wanted)


def _checked_on_gpu(
    pixels: DevicePixels, name: str, spec: ModalitySpec, grid: Size
) -> DevicePixels:
    _check_shape(pixels.shape, name, spec, grid)
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
        return f"Channels must be {names}, in this order; were optical and SAR swapped?"
    return f"This bundle judges {height} x {width} pixels; use `classify_scene` for larger rasters"


def _kernel_dtype(pixels: npt.NDArray[Any], name: str, spec: ModalitySpec) -> np.dtype[Any]:
    kind = pixels.dtype.kind
    if kind == "f":
        return _FLOAT32
    if kind in "iu" and spec.dn_scale is None:
        raise InputError(
            f"{name} has integer dtype {pixels.dtype}, expected float32 in {spec.unit}",
            hint=f"Convert to {spec.unit} as float32; an integer cast loses the fraction",
        )
    if kind in "iu":
        return _integer_dtype(pixels, name)
    raise InputError(
        f"{name} has dtype {pixels.dtype}, expected integers (DN) or float {spec.unit}"
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
    data = pixels.data.copy()
    if data.dtype.kind == "f":
        absent: float = np.nan
    elif spec.nodata is not None:
        absent = spec.nodata
    else:
        raise InputError(f"{name} is a masked integer array, but the bundle has no nodata value")
    data[:, np.ma.getmaskarray(pixels).any(axis=0)] = absent
    return data
