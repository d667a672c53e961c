"""For which GPUs a fatbin holds kernels, read from its headers: no driver, no toolkit.

The layout is not documented by NVIDIA; it is what nvcc 12 and 13 write.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import ArtifactError

_MAGIC = 0xBA55ED50
_FILE = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes that follow it
_ENTRY = struct.Struct("<HHIQ12xI")  # kind, version, header bytes, payload bytes, architecture
_PTX = 1
_AGAIN = "Install esccs-edge again"


class Image(NamedTuple):
    """One of the kernels' compiled forms.

    Attributes:
        is_ptx: True for PTX, which the driver compiles; False for machine code.
        capability: Compute capability ``(major, minor)``.
    """

    is_ptx: bool
    capability: tuple[int, int]

    def runs_on(self, gpu: tuple[int, int]) -> bool:
        """Return whether a GPU can use it: machine code within its major version, PTX upward."""
        if self.is_ptx:
            return gpu >= self.capability
        return gpu[0] == self.capability[0] and gpu[1] >= self.capability[1]

    def __str__(self) -> str:
        return f"{'PTX ' if self.is_ptx else ''}{self.capability[0]}.{self.capability[1]}"


def images_of(content: bytes) -> list[Image]:
    """List what a fatbin holds.

    Raises:
        ArtifactError: It is no fatbin, or is cut short.
    """
    found: list[Image] = []
    try:
        magic, _, header, size = _FILE.unpack_from(content)
        if magic != _MAGIC:
            raise ArtifactError("the CUDA kernels are no fatbin", hint=_AGAIN)
        at, end = header, header + size
        while at < end:
            kind, _, entry_header, payload, architecture = _ENTRY.unpack_from(content, at)
            found.append(Image(kind == _PTX, divmod(architecture, 10)))
            at += entry_header + payload
    except struct.error as error:
        raise ArtifactError(f"the CUDA kernels are cut short: {error}", hint=_AGAIN) from error
    if at > len(content):
        raise ArtifactError(f"the CUDA kernels are cut short: {len(content):,} bytes", hint=_AGAIN)
    return found
