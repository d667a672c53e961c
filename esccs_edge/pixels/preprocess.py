"""Stored pixels -> network input: the one definition of preprocessing, on the CPU.

Training, calibration and the CPU backend all call `preprocess`; the CUDA kernel is compiled from
the same arithmetic (`native/pixel.h`). The formula stands in `ModalitySpec`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _preprocess_cpu
from ..contracts.manifest import ModalitySpec
from ..contracts.values import ABSENT, DevicePixels, Pixels, PixelStats
from ..errors import InputError
from ..system.cores import usable_cores

#: Stored types the kernels read directly.
KERNEL_DTYPES = (np.uint8, np.uint16, np.int16, np.float32)

#: Asked once: the answer takes as long as a small patch.
_CORES = usable_cores()

#: Mean of each channel and what to multiply the difference by.
_Scaling = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def preprocess(
    images: Sequence[Pixels | None],
    spec: ModalitySpec,
    out: npt.NDArray[np.float32],
    *,
    linear_to_db: bool = False,
    threads: int | None = None,
) -> list[PixelStats]:
    """Normalise a batch of patches of one modality into ``out``.

    Args:
        images: N arrays ``(C, H, W)``, C-contiguous, dtype in `KERNEL_DTYPES`; None is an absent
            modality, whose row becomes 0.
        spec: Contract of the modality. Integers go through ``dn_scale`` and ``dn_offset``.
        out: ``(>=N, C, H, W)`` float32, C-contiguous; the first N rows are overwritten.
        linear_to_db: The pixels are linear sigma0; convert with ``10 * log10``, floored at 1e-5.
        threads: Threads to use; None takes every core when the batch is large enough to gain.

    Returns:
        What was seen in each patch; ``ABSENT`` for None.

    Raises:
        InputError: ``out`` is not an array that can be written in place, or pixels lie on a GPU.
        TypeError: An image is not an array of the stated kind.
        ValueError: Shapes disagree, or a dtype is not in `KERNEL_DTYPES`.
    """
    _check_out(out, np.float32)
    pixels = out.shape[2] * out.shape[3]
    kernel = _preprocess_cpu.preprocess
    return _run(kernel, images, spec, out, _statistics(spec), pixels, linear_to_db, threads)


def quantize(
    images: Sequence[Pixels | None],
    spec: ModalitySpec,
    out: npt.NDArray[np.uint8],
    step: float,
    *,
    linear_to_db: bool = False,
    threads: int | None = None,
) -> list[PixelStats]:
    """Normalise and quantize a batch of patches of one modality, channels last, in one pass.

    What `preprocess` and the ``QuantizeLinear`` at the input of an INT8 graph would give, plus 128
    so that it fits a byte; where a value lies between two steps, they may differ by one.

    Args:
        images: See `preprocess`; the row of an absent modality becomes 128.
        spec: See `preprocess`.
        out: ``(>=N, H, W, C)`` uint8, C-contiguous; the first N rows are overwritten.
        step: Scale of the ``QuantizeLinear``, whose zero point is 0.
        linear_to_db: See `preprocess`.
        threads: See `preprocess`.

    Returns:
        See `preprocess`.

    Raises:
        InputError: See `preprocess`.
        TypeError: See `preprocess`.
        ValueError: See `preprocess`.
    """
    _check_out(out, np.uint8)
    pixels = out.shape[1] * out.shape[2]
    kernel = _preprocess_cpu.quantize
    return _run(kernel, images, spec, out, _statistics(spec, step), pixels, linear_to_db, threads)


def _check_out(out: npt.NDArray[Any], dtype: type[np.generic]) -> None:
    if out.dtype != dtype or not (out.flags.c_contiguous and out.flags.writeable):
        # The binding would convert it, and the result would be lost in the copy.
        raise InputError(
            f"out has dtype {out.dtype} and strides {out.strides}, "
            f"expected a writeable, C-contiguous {np.dtype(dtype)} array"
        )


def _run(
    kernel: Callable[..., None],
    images: Sequence[Pixels | None],
    spec: ModalitySpec,
    out: npt.NDArray[Any],
    scaling: _Scaling,
    pixels: int,
    linear_to_db: bool,
    threads: int | None,
) -> list[PixelStats]:
    table = np.empty((len(images), 7))
    try:
        kernel(
            images if isinstance(images, list) else list(images),
            out,
            *scaling,
            table,
            spec.dn_scale or 1.0,
            spec.dn_offset,
            spec.nodata,
            spec.clip[0],
            spec.clip[1],
            linear_to_db,
            threads or _CORES,
        )
    except TypeError:
        if any(isinstance(image, DevicePixels) for image in images):
            raise InputError(
                "these pixels lie on a GPU, but are to be read by the CPU",
                hint="Use the TensorRT backend, or copy them to the host",
            ) from None
        raise
    return [
        ABSENT if image is None else _stats(pixels, row)
        for image, row in zip(images, table.tolist(), strict=True)
    ]


def _stats(pixels: int, row: list[float]) -> PixelStats:
    valid, nonfinite, below, above, *physical = row
    return PixelStats(pixels, int(valid), int(nonfinite), int(below), int(above), *physical)


@lru_cache(maxsize=16)
def _statistics(spec: ModalitySpec, step: float = 1.0) -> _Scaling:
    mean = np.asarray(spec.mean, np.float32)
    inv_std = (1.0 / (np.asarray(spec.std, np.float64) * step)).astype(np.float32)
    return mean, inv_std
