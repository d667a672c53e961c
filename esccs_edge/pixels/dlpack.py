"""Arrays handed over by DLPack: what a capsule says, and its memory given back exactly once.

The structs are those of DLPack 0.x and 1.x (``dlpack.h``), read through ctypes. Which stream the
producer has to wait for follows the array API standard's ``__dlpack__``.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError

#: ``kDLCUDA`` and ``kDLCUDAManaged``: memory that a kernel can read.
_CUDA_DEVICES = (2, 13)
#: ``kDLCPU`` and ``kDLCUDAHost``, which is pinned memory.
_HOST_DEVICES = (1, 3)
#: Newest version whose structs are known here.
_VERSION = (1, 0)
#: ``DLDataTypeCode`` -> NumPy's letter; the others are no pixels.
_KINDS = {0: "i", 1: "u", 2: "f"}


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("ordinal", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int32),
        ("dtype", _DataType), ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip


class _Managed(ctypes.Structure):
    _fields_ = [
        ("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
    ]  # fmt: skip


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("tensor", _Tensor),
    ]  # fmt: skip


#: Name of a fresh capsule -> its struct and the name that says it was taken. The names are kept
#: here because a capsule does not copy its own.
_CAPSULES: dict[bytes, tuple[type[_Managed] | type[_Versioned], bytes]] = {
    b"dltensor_versioned": (_Versioned, b"used_dltensor_versioned"),
    b"dltensor": (_Managed, b"used_dltensor"),
}
# They hold the interpreter's lock, which a producer's deleter may count on.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", ctypes.pythonapi)
)
_Deleter = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)


class Loan:
    """Memory of a producer; it is given back when this object goes."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        # Not at the interpreter's exit, when the producer may be gone.
        weakref.finalize(self, give_back).atexit = False


@dataclass(frozen=True)
class Borrowed:
    """An array in a producer's memory.

    Attributes:
        address: Of its first element.
        shape: Sizes.
        strides: In bytes; None if contiguous.
        dtype: Of the elements.
        loan: Keep it as long as the memory is used.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: np.dtype[Any]
    loan: Loan


def lies_on_gpu(array: Any) -> bool:
    """Return whether an object offers DLPack and says that it lies on a CUDA device."""
    if not hasattr(array, "__dlpack__") or not hasattr(array, "__dlpack_device__"):
        return False
    return int(array.__dlpack_device__()[0]) in _CUDA_DEVICES


def lies_on_host(array: Any) -> bool:
    """Return False for an object that says by DLPack that it lies elsewhere."""
    if not hasattr(array, "__dlpack_device__"):
        return True
    return int(array.__dlpack_device__()[0]) in _HOST_DEVICES


def borrow(array: Any, stream: int) -> Borrowed:
    """Ask an object for its memory.

    Args:
        array: Offers ``__dlpack__``.
        stream: What the consumer's work comes after: the producer makes this stream wait for it.

    Raises:
        InputError: The producer refuses, or it is no array of plain numbers.
    """
    try:
        try:
            capsule = array.__dlpack__(stream=stream, max_version=_VERSION)
        except TypeError:  # from before DLPack 1.0
            capsule = array.__dlpack__(stream=stream)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{type(array).__name__} does not hand its memory over: {error}"
        ) from error
    return take(capsule)


def take(capsule: Any) -> Borrowed:
    """Become the owner of what a capsule holds.

    Raises:
        InputError: It is no fresh DLPack capsule or holds no plain numbers; then what was taken
            is given back at once.
    """
    name = next((name for name in _CAPSULES if _is_valid(capsule, name)), None)
    if name is None:
        raise InputError(f"__dlpack__ gave {capsule!r}, expected a capsule that was not used yet")
    struct, used = _CAPSULES[name]
    address = _pointer(capsule, name)
    managed = struct.from_address(address)
    _rename(capsule, used)
    deleter = managed.deleter
    loan = Loan(lambda: _Deleter(deleter)(address) if deleter else None)
    if isinstance(managed, _Versioned) and managed.major > _VERSION[0]:
        raise InputError(f"DLPack has version {managed.major}, expected {_VERSION[0]} or older")
    tensor = managed.tensor
    dtype, axes = _dtype(tensor.dtype), range(tensor.ndim)
    return Borrowed(
        (tensor.data or 0) + tensor.byte_offset,
        tuple(tensor.shape[axis] for axis in axes),
        tuple(tensor.strides[axis] * dtype.itemsize for axis in axes) if tensor.strides else None,
        dtype,
        loan,
    )


def _dtype(stated: _DataType) -> np.dtype[Any]:
    if stated.lanes != 1 or stated.code not in _KINDS or stated.bits not in (8, 16, 32, 64):
        raise InputError(
            f"DLPack elements have type code {stated.code}, {stated.bits} bits and {stated.lanes} "
            "lanes, expected plain integers or floats"
        )
    return np.dtype(f"{_KINDS[stated.code]}{stated.bits // 8}")
