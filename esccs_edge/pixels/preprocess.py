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
from ..contracts.modality import ModalitySpec
from ..contracts.types import Pixels
from ..contracts.values import ABSENT, DevicePixels, PixelStats
from ..errors import InputError
from ..system.cores import usable_cores

#: Stored types the kernels read directly.
KERNEL_DTYPES = (np.uint8, np.uint16, np.int16, np.float32)

#: Asked once: the answer takes as long as a small patch.
_CORES = usable_cores()

_Factors = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def preprocess(
    images: Sequence[Pixels | None],
    spec: ModalitySpec,
    out: npt.NDArray[Any],
    *,
    step: float | None = None,
    threads: int | None = None,
) -> list[PixelStats]:
    """Normalize a batch of patches of one modality into ``out``, in one pass.

    Args:
        images: N arrays ``(C, H, W)``, C-contiguous, dtype in `KERNEL_DTYPES`; None is an absent
            modality, whose row becomes 0.
        spec: Contract of the modality.
        out: ``(>=N, C, H, W)`` float32 or, with ``step``, ``(>=N, H, W, C)`` uint8; C-contiguous.
            The first N rows are overwritten.
        step: Scale of the ``QuantizeLinear`` at the input of an INT8 graph, whose zero point is 0.
            ``out`` then gets what that would give, plus 128 so that it fits a byte; where a value
            lies between two steps, they may differ by one.
        threads: Threads to use; None takes every core when the batch is large enough to gain.

    Returns:
        What was seen in each patch; ``ABSENT`` for None.

    Raises:
        InputError: ``out`` is not an array that can be written in place, or pixels lie on a GPU.
        TypeError: An image is not an array of the stated kind.
        ValueError: Shapes disagree, or a dtype is not in `KERNEL_DTYPES`.
    """
    kernel: Callable[..., None]
    if step is None:
        _check_out(out, np.float32)
        kernel, height, width = _preprocess_cpu.preprocess, out.shape[2], out.shape[3]
    else:
        _check_out(out, np.uint8)
        kernel, height, width = _preprocess_cpu.quantize, out.shape[1], out.shape[2]
    patches: list[Any] = images if isinstance(images, list) else list(images)
    table = np.empty((len(images), 7))
    try:
        kernel(
            patches,
            out,
            *channel_factors(spec, step),
            table,
            spec.dn_scale or 1.0,
            spec.dn_offset,
            spec.nodata,
            spec.clip[0],
            spec.clip[1],
            spec.is_linear,
            threads or _CORES,
        )
    except TypeError:
        if any(isinstance(image, DevicePixels) for image in images):
            raise InputError(
                "these pixels lie on a GPU, but are to be read by the CPU",
                hint="Use the TensorRT backend, or copy them to the host",
            ) from None
        raise
    pixels = height * width
    return [
        ABSENT if image is None else _stats(pixels, row)
        for image, row in zip(images, table.tolist(), strict=True)
    ]


@lru_cache(maxsize=32)
def channel_factors(spec: ModalitySpec, step: float | None = None) -> _Factors:
    """Return each channel's mean, and what a difference from it is multiplied by.

    That is ``1 / std`` or, for an INT8 input with a step, ``1 / (std * step)``.
    """
    mean = np.asarray(spec.mean, np.float32)
    factor = 1.0 / (np.asarray(spec.std, np.float64) * (1.0 if step is None else step))
    return mean, factor.astype(np.float32)


def _check_out(out: npt.NDArray[Any], dtype: type[np.generic]) -> None:
    if out.dtype != dtype or not (out.flags.c_contiguous and out.flags.writeable):
        # The binding would convert it, and the result would be lost in the copy.
        raise InputError(
            f"out has dtype {out.dtype} and strides {out.strides}, "
            f"expected a writeable, C-contiguous {np.dtype(dtype)} array"
        )


def _stats(pixels: int, row: list[float]) -> PixelStats:
    valid, nonfinite, below, above, *physical = row
    return PixelStats(pixels, int(valid), int(nonfinite), int(below), int(above), *physical)
