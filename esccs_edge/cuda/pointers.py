"""Whose memory an address is, by the driver's own books: asked before a kernel reads for others.

A kernel that is sent to memory of another GPU, or to memory that was freed, ends the GPU for the
whole process. Answered through ctypes, for either provider.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import InputError
from .probe import driver_library

# Values of CUpointer_attribute in cuda.h, in the order of `_Answer`.
_MEMORY_TYPE, _IS_MANAGED, _ORDINAL, _START, _SIZE = 2, 8, 9, 11, 12
_ASKED = (ctypes.c_int * 5)(_MEMORY_TYPE, _IS_MANAGED, _ORDINAL, _START, _SIZE)
# Values of CUmemorytype.
_HOST, _DEVICE = 1, 2


class Pointer(NamedTuple):
    """What the driver knows of an address.

    Attributes:
        known: False if it lies in no allocation that a kernel may read.
        ordinal: GPU that holds the memory; None if any may read it (pinned host or managed memory).
        start: Where the allocation starts.
        size: Bytes of the allocation.
    """

    known: bool
    ordinal: int | None = None
    start: int = 0
    size: int = 0


def pointer_at(address: int) -> Pointer:
    """Ask the driver of this host; its context must be current."""
    return query_pointer(driver_library(), address)


def query_pointer(library: Any, address: int) -> Pointer:
    """Ask a loaded driver library; it answers with zeros for an address that it does not know."""
    kind, managed, ordinal = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_int()
    start, size = ctypes.c_uint64(), ctypes.c_size_t()
    answers = (kind, managed, ordinal, start, size)
    targets = (ctypes.c_void_p * 5)(*(ctypes.addressof(answer) for answer in answers))
    failed = library.cuPointerGetAttributes(5, _ASKED, targets, ctypes.c_uint64(address))
    if failed or kind.value not in (_HOST, _DEVICE) or not size.value:
        return Pointer(False)
    anyone = kind.value == _HOST or managed.value
    return Pointer(True, None if anyone else ordinal.value, start.value, size.value)


class PointerCheck:
    """Asks about the pixels of one batch, each allocation once.

    Nothing is remembered longer, since memory may be freed between batches.

    Args:
        ask: `Driver.pointer`.
        ordinal: GPU that is to read.
    """

    def __init__(self, ask: Callable[[int], Pointer], ordinal: int) -> None:
        self._ask, self._ordinal = ask, ordinal
        self._found: list[Pointer] = []

    def require(self, address: int, size: int, name: str) -> None:
        """Refuse bytes that this GPU cannot read.

        They may span allocations that follow one another, as those of a growing segment do.

        Raises:
            InputError: They are not, or not all, memory of this GPU.
        """
        at, end = address, address + size
        while at < end:
            found = self._allocation_of(at)
            if not found.known:
                raise InputError(
                    f"{name} on the GPU is {size:,} bytes from address {address:#x}, of which "
                    f"{end - at:,} are no allocated memory",
                    hint="Keep the array until the answer is there, and hand over all of it",
                )
            if found.ordinal not in (None, self._ordinal):
                raise InputError(
                    f"{name} lies on GPU {found.ordinal}, the model runs on GPU {self._ordinal}",
                    hint=f"Copy it there, or open the model with device={found.ordinal}",
                )
            at = found.start + found.size

    def _allocation_of(self, address: int) -> Pointer:
        for known in self._found:
            if known.start <= address < known.start + known.size:
                return known
        found = self._ask(address)
        if found.known:
            self._found.append(found)
        return found
