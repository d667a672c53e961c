"""Stored pixels -> network input: the one definition of preprocessing, on the CPU.

Training, calibration and the CPU backend all call `preprocess`; the CUDA kernel is compiled from
the same arithmetic (`native/pixel.h`). The formula stands in `ModalitySpec`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from . import _preprocess_cpu
from .errors import InputError
from .manifest import ModalitySpec
from .scene import ABSENT, DevicePixels, Pixels, PixelStats

#: Stored types the kernels read directly.
KERNEL_DTYPES = (np.uint8, np.uint16, np.int16, np.float32)

#: Asked once: the answer takes as long as a small patch.
_CORES = os.cpu_count() or 1


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
    if out.dtype != np.float32 or not (out.flags.c_contiguous and out.flags.writeable):
        # The binding would convert it, and the result would be lost in the copy.
        raise InputError(
            f"out has dtype {out.dtype} and strides {out.strides}, "
            "expected a writeable, C-contiguous float32 array"
        )
    mean, inv_std = _statistics(spec)
    table = np.empty((len(images), 7))
    try:
        _preprocess_cpu.preprocess(
            images if isinstance(images, list) else list(images),
            out,
            mean,
            inv_std,
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
    pixels = out.shape[2] * out.shape[3]
    return [
        ABSENT if image is None else _stats(pixels, row)
        for image, row in zip(images, table.tolist(), strict=True)
    ]


def _stats(pixels: int, row: list[float]) -> PixelStats:
    valid, nonfinite, below, above, *physical = row
    return PixelStats(pixels, int(valid), int(nonfinite), int(below), int(above), *physical)


@lru_cache(maxsize=16)
def _statistics(spec: ModalitySpec) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    mean = np.asarray(spec.mean, np.float32)
    inv_std = (1.0 / np.asarray(spec.std, np.float64)).astype(np.float32)
    return mean, inv_std
