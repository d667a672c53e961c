"""Pixels that already lie on the GPU: ``__cuda_array_interface__``, or DLPack on a CUDA device.

Such arrays come from torch, cupy, numba, jax and others. Their pixels are read where they lie, so
nothing is uploaded; the object must not be written to until the answer is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..contracts.values import DevicePixels
from ..errors import InputError
from .dlpack import borrow, lies_on_gpu

#: ``CU_STREAM_LEGACY``: where libraries put their work by default.
LEGACY_STREAM = 1
#: ``CU_STREAM_PER_THREAD``: another one in each thread.
PER_THREAD_STREAM = 2
#: From this version on, the interface names the stream to wait for (None: nothing to wait for).
_NAMES_ITS_STREAM = 3


def device_pixels_of(pixels: Any, name: str) -> DevicePixels | None:
    """Return where an array lies on the GPU, or None if it does not say so.

    A DLPack producer is asked to make the legacy default stream wait for its work. Before version 3
    the other interface (torch's, for one) does not name the producer's stream; then that same
    stream is waited for, and work put on another one has to be finished before.

    Args:
        pixels: Whatever the caller handed in.
        name: What to call it in an error.

    Raises:
        InputError: It is not contiguous, or its elements do not start where they should.
    """
    if isinstance(pixels, np.ndarray):
        return None
    if (interface := getattr(pixels, "__cuda_array_interface__", None)) is not None:
        return _checked(_by_interface(interface, pixels, name), interface.get("strides"), name)
    if not lies_on_gpu(pixels):
        return None
    lent = borrow(pixels, LEGACY_STREAM)
    found = DevicePixels(lent.address, lent.shape, lent.dtype, LEGACY_STREAM, lent.loan)
    return _checked(found, lent.strides, name)


def _by_interface(interface: Mapping[str, Any], owner: Any, name: str) -> DevicePixels:
    if interface.get("mask") is not None:
        raise InputError(f"{name} on the GPU has a mask, expected nodata values in its place")
    stream = interface.get("stream") if interface["version"] >= _NAMES_ITS_STREAM else LEGACY_STREAM
    if stream == PER_THREAD_STREAM:
        raise InputError(
            f"{name} on the GPU is made on the default stream of a thread, "
            "which no other thread can wait for",
            hint="Make it on a stream of its own, or synchronize and export stream=None",
        )
    return DevicePixels(
        int(interface["data"][0]),
        tuple(int(size) for size in interface["shape"]),
        np.dtype(interface["typestr"]),
        stream,
        owner,
    )


def _checked(found: DevicePixels, strides: tuple[int, ...] | None, name: str) -> DevicePixels:
    shape, item = found.shape, found.dtype.itemsize
    expected = tuple(int(np.prod(shape[i + 1 :])) * item for i in range(len(shape)))
    steps = zip(shape, strides or expected, expected, strict=True)
    if any(size > 1 and step != wanted for size, step, wanted in steps):
        raise InputError(
            f"{name} on the GPU has strides {strides}, expected {expected} (contiguous)",
            hint="Make it contiguous there, such as by tensor.contiguous()",
        )
    if found.address == 0 or found.address % item:
        raise InputError(
            f"{name} on the GPU starts at address {found.address:#x}, expected its elements"
        )
    return found
