"""Arrays as users hand them in -> a `PatchPair` the kernels can read, or a clear refusal.

Checks here cost microseconds and look at shape and type only; what the *values* tell is judged
after preprocessing, from its statistics (`radiometry_problem`, `flags_of`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest, ModalitySpec
from ..contracts.values import DevicePixels, Flag, PatchPair, Pixels, PixelStats
from ..errors import InputError
from .device_pixels import device_pixels_of
from .pixel_memory import PixelMemory
from .preprocess import KERNEL_DTYPES

#: Share of values outside the clip range above which a pair is flagged.
CLIPPED_SHARE = 0.1
#: Reflectance above which a mean cannot be reflectance; 2 is twice a perfect white surface.
IMPLAUSIBLE_REFLECTANCE = 2.0
#: No pixel of a Sentinel-1 patch is this dark: the noise floor lies above -30 dB. Negative numbers
#: taken for linear sigma0 land on the kernel's floor of -50 dB.
IMPLAUSIBLE_DB = -45.0

_FLOAT32 = np.dtype(np.float32)


def checked_pair(
    optical: Any, sar: Any, manifest: Manifest, memory: PixelMemory | None = None
) -> PatchPair:
    """Check shapes and types and bring both arrays into the form the kernels take.

    Args:
        optical: ``(C, H, W)`` array-like in the manifest's band order, or None. An array on the GPU
            (`device_pixels`) stays there.
        sar: ``(P, H, W)`` array-like in the manifest's polarisation order, or None.
        manifest: Contract of the model.
        memory: Where both arrays are copied to. None: those that already fit are not copied.

    Returns:
        The pair.

    Raises:
        InputError: Wrong number of axes, channels or pixels, or a type that would need a
            value-changing cast.
    """
    size = manifest.patch_size
    return PatchPair(
        None if optical is None else _checked(optical, "optical", manifest.optical, size, memory),
        None if sar is None else _checked(sar, "SAR", manifest.sar, size, memory),
    )


def _checked(
    pixels: Any, name: str, spec: ModalitySpec, size: int, memory: PixelMemory | None
) -> Pixels:
    if (on_gpu := device_pixels_of(pixels, name)) is not None:
        return _checked_on_gpu(on_gpu, name, spec, size)
    if isinstance(pixels, np.ma.MaskedArray):
        pixels = _filled(pixels, name, spec)
    elif not isinstance(pixels, np.ndarray):
        try:
            pixels = np.asarray(pixels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{name} cannot be read as an array: {error}") from error
    _check_shape(pixels.shape, name, spec, size)
    array = np.asarray(pixels)
    wanted = _kernel_dtype(array, name, spec)
    if memory is None:
        flags = array.flags
        if array.dtype == wanted and flags.c_contiguous and flags.aligned:
            return array  # as nearly always
        memory = PixelMemory()
    return memory.copy(array, wanted)


def _checked_on_gpu(pixels: DevicePixels, name: str, spec: ModalitySpec, size: int) -> DevicePixels:
    _check_shape(pixels.shape, name, spec, size)
    wanted = (np.float32,) if spec.dn_scale is None else KERNEL_DTYPES
    if pixels.dtype not in wanted:
        names = ", ".join(np.dtype(dtype).name for dtype in wanted)
        raise InputError(f"{name} on the GPU has dtype {pixels.dtype}, expected one of {names}")
    return pixels


def _check_shape(found: tuple[int, ...], name: str, spec: ModalitySpec, size: int) -> None:
    expected = (len(spec.channels), size, size)
    if found != expected:
        raise InputError(
            f"{name} has shape {found}, expected {expected}",
            hint=_shape_hint(found, expected, spec),
        )


def _shape_hint(found: tuple[int, ...], expected: tuple[int, int, int], spec: ModalitySpec) -> str:
    channels, height, _ = expected
    names = ", ".join(spec.channels)
    if len(found) != 3:
        return f"Pass one patch as (channels, height, width); channels are {names}"
    if found[2] == channels and found[0] != channels:
        return "The channels come last; pass array.transpose(2, 0, 1)"
    if found[0] != channels:
        return f"Channels must be {names}, in this order; were optical and SAR swapped?"
    return f"This bundle judges {height} x {height} pixels; use classify_scene for larger rasters"


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


def radiometry_problem(stats: PixelStats, spec: ModalitySpec, is_dn: bool) -> InputError | None:
    """Return the error for values that cannot be what the manifest asks for, or None.

    Args:
        stats: What preprocessing saw.
        spec: Contract of the modality.
        is_dn: True if the pixels were integers.
    """
    if not stats.valid:
        return None
    if spec.unit == "reflectance" and not is_dn and stats.mean > IMPLAUSIBLE_REFLECTANCE:
        return InputError(
            f"optical float values have mean {stats.mean:.4g}, expected reflectance around 0..1",
            hint="These look like digital numbers: pass them as uint16, or multiply by 1e-4",
        )
    if spec.unit == "dB" and stats.minimum >= 0 and stats.maximum > stats.minimum:
        return InputError(
            f"SAR values span {stats.minimum:.4g}..{stats.maximum:.4g}, expected dB around -35..5",
            hint="These look like linear sigma0: use Classifier(sar_unit='linear') or 10*log10",
        )
    if spec.unit == "dB" and -100 <= stats.maximum < IMPLAUSIBLE_DB:
        return InputError(
            f"no SAR value is above {stats.maximum:.4g} dB, expected around -35..5",
            hint="If these were dB, pass them without sar_unit='linear'",
        )
    if spec.unit == "dB" and stats.mean < -100:
        return InputError(
            f"SAR values have mean {stats.mean:.4g}, expected dB around -35..5",
            hint="These look like scaled integers: divide so that the unit is dB",
        )
    return None


def flags_of(stats: PixelStats, spec: ModalitySpec, is_dn: bool) -> set[Flag]:
    """Return what a user should know about the pixels of one present modality."""
    flags = set()
    if stats.valid < stats.pixels:
        flags.add(Flag.PARTIAL_NODATA)
    if stats.nonfinite:
        flags.add(Flag.NONFINITE_MASKED)
    values = stats.valid * len(spec.channels)
    if stats.below + stats.above > CLIPPED_SHARE * values:
        flags.add(Flag.CLIPPED)
    if stats.valid and _looks_suspect(stats, spec, is_dn, values):
        flags.add(Flag.RADIOMETRY_SUSPECT)
    return flags


def _looks_suspect(stats: PixelStats, spec: ModalitySpec, is_dn: bool, values: int) -> bool:
    if spec.unit == "reflectance":
        # Below 0: an offset applied twice. A maximum under 2.6 %: 8-bit numbers read as 16-bit.
        too_dark = is_dn and stats.maximum < 0.026
        return too_dark or stats.below > 0.05 * values or stats.mean > IMPLAUSIBLE_REFLECTANCE
    if spec.unit == "dB":
        return stats.mean < -50 or stats.mean > 10
    return False
