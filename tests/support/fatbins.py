"""Fatbins as nvcc writes them, but for what is in them."""

from __future__ import annotations

import struct

#: What `native/kernels.cmake` compiles for where no GPU is seen: GPUs, then what PTX is for.
SERVED = (75, 80, 86, 87, 89, 90, 100, 110, 120)
SERVED_AS_PTX = (80, 90, 120)


def fatbin(*images: tuple[bool, int]) -> bytes:
    """Images are (is PTX, compute capability)."""
    entries = b"".join(
        struct.pack("<HHIQ12xI32x", 1 if ptx else 2, 0x101, 64, 16, sm) + bytes(16)
        for ptx, sm in images
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def fatbin_for_all() -> bytes:
    """Return that of a wheel."""
    return fatbin(*((False, gpu) for gpu in SERVED), *((True, gpu) for gpu in SERVED_AS_PTX))
