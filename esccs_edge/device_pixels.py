"""Pixels that already lie on the GPU: any object with ``__cuda_array_interface__``.

Such arrays come from torch, cupy, numba, jax and others. Their pixels are read where they lie, so
nothing is uploaded; the object must not be written to until the answer is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InputError
from .scene import DevicePixels

#: ``CU_STREAM_LEGACY``: where libraries put their work unless told otherwise.
LEGACY_STREAM = 1
#: From this version on, the interface names the stream to wait for (None: nothing to wait for).
_NAMES_ITS_STREAM = 3


def device_pixels_of(pixels: Any, name: str) -> DevicePixels | None:
    """Return where an array lies on the GPU, or None if it does not say so.

    Before version 3 the interface (torch's, for one) does not tell the producer's stream; then the
    legacy default stream is waited for. Work put on another stream has to be finished before.

    Args:
        pixels: Whatever the caller handed in.
        name: What to call it in an error.

    Raises:
        InputError: It is not contiguous, or its elements do not start where they should.
    """
    found = getattr(pixels, "__cuda_array_interface__", None)
    if found is None:
        return None
    dtype, shape = np.dtype(found["typestr"]), tuple(int(size) for size in found["shape"])
    expected = tuple(int(np.prod(shape[i + 1 :])) * dtype.itemsize for i in range(len(shape)))
    if (found.get("strides") or expected) != expected or found.get("mask") is not None:
        raise InputError(
            f"{name} on the GPU has strides {found.get('strides')} or a mask, expected contiguous",
            hint="Make it contiguous there, such as by tensor.contiguous()",
        )
    address = int(found["data"][0])
    if address == 0 or address % dtype.itemsize:
        raise InputError(f"{name} on the GPU starts at address {address:#x}, expected its elements")
    stream = found.get("stream") if found["version"] >= _NAMES_ITS_STREAM else LEGACY_STREAM
    return DevicePixels(address, shape, dtype, stream, pixels)
