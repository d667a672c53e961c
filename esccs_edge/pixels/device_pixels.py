"""Pixels that already lie on the GPU: ``__cuda_array_interface__``, or DLPack on a CUDA device.

Such arrays come from torch, cupy, numba, pycuda, jax and others. Their pixels are read where they
lie, so nothing is uploaded; the object must not be written to until the answer is there. Arrays on
other accelerators are refused: nothing is copied through the host in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..contracts.values import DevicePixels
from ..cuda.driver import event_number_of, stream_number_of
from ..errors import EsccsError, InputError
from .dlpack import borrow, lies_on_gpu, lies_on_host

#: ``CU_STREAM_LEGACY``: where libraries put their work by default.
LEGACY_STREAM = 1
#: ``CU_STREAM_PER_THREAD``: another one in each thread.
PER_THREAD_STREAM = 2
#: From this version on, the interface names the stream to wait for (None: nothing to wait for).
_NAMES_ITS_STREAM = 3


class GpuPixels:
    """Pixels on the GPU, with the stream or event of another library that they wait for.

    It stands wherever an array of pixels is taken, for one whose library does not say by itself on
    which stream it is made, or that is ready at an event. The GPU waits, the calling thread does
    not. All three are borrowed: they are kept alive until the answer is there, and neither freed,
    destroyed nor synchronized. Until then the caller may not write to the pixels nor record the
    event again.

    Args:
        array: ``(C, H, W)``, contiguous; offers ``__cuda_array_interface__`` or DLPack.
        stream: Stream on which it is made; what is enqueued there by now is waited for. Anything
            with ``__cuda_stream__``, torch's, cupy's, pycuda's, or a ``CUstream`` number.
        event: Event to be waited for, which was recorded: torch's, cupy's, pycuda's, cuda.core's,
            or a ``CUevent`` number.

    Raises:
        InputError: Stream or event is none of these, or the default stream of a thread; or neither
            is given, since then the array is taken as it is.
    """

    def __init__(self, array: Any, *, stream: Any = None, event: Any = None) -> None:
        if stream is None and event is None:
            raise InputError("GpuPixels got neither a stream nor an event: pass the array itself")
        if stream is not None and stream_number_of(stream) == PER_THREAD_STREAM:
            raise InputError("the default stream of a thread is one that no other can wait for")
        if event is not None:
            event_number_of(event)
        self.array, self.stream, self.event = array, stream, event


def device_pixels_of(pixels: Any, name: str) -> DevicePixels | None:
    """Return where an array lies on the GPU, or None if it does not say so.

    Version 3 of the interface names the stream to wait for. A DLPack producer is asked to make the
    legacy default stream wait for its work, so an object that offers both (torch's, for one) is
    taken by DLPack where its interface is older. Where there is only the older interface, that same
    stream is waited for, and work put on another one has to be finished before.

    Args:
        pixels: Whatever the caller handed in.
        name: What to call it in an error.

    Raises:
        InputError: It is not contiguous, its elements do not start where they should, it lies on
            an accelerator other than a CUDA device, or the object raises when it is asked.
    """
    if isinstance(pixels, np.ndarray):
        return None
    if isinstance(pixels, GpuPixels):
        return _after(pixels, name)
    try:
        return _found_on_device(pixels, name)
    except EsccsError:
        raise
    except Exception as error:  # anything may come out of another library's object
        raise InputError(
            f"{name} is a {type(pixels).__name__} that does not say where its pixels are: "
            f"{type(error).__name__}: {error}",
            hint="A torch tensor has to be detached first: tensor.detach()",
        ) from error


def _after(pixels: GpuPixels, name: str) -> DevicePixels:
    found = device_pixels_of(pixels.array, name)
    if found is None:
        raise InputError(
            f"{name} is a {type(pixels.array).__name__} on the host, expected pixels on the GPU",
            hint="Pass the array itself, without GpuPixels",
        )
    stream = found.stream if pixels.stream is None else pixels.stream
    return replace(found, stream=stream, owner=(found.owner, pixels), event=pixels.event)


def _found_on_device(pixels: Any, name: str) -> DevicePixels | None:
    interface = getattr(pixels, "__cuda_array_interface__", None)
    names_its_stream = interface is not None and interface["version"] >= _NAMES_ITS_STREAM
    if not names_its_stream and lies_on_gpu(pixels):
        lent = borrow(pixels, LEGACY_STREAM)
        found = DevicePixels(lent.address, lent.shape, lent.dtype, LEGACY_STREAM, lent.loan)
        return _checked(found, lent.strides, name)
    if interface is None:
        if not lies_on_host(pixels):
            raise InputError(
                f"{name} is a {type(pixels).__name__} on an accelerator other than a CUDA device",
                hint="Copy it to the host",
            )
        return None
    return _checked(_by_interface(interface, pixels, name), interface.get("strides"), name)


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
