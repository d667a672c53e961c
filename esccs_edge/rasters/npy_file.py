"""Patches stored as NumPy ``.npy`` files: the simplest exchange form, read without pickle."""

from __future__ import annotations

import stat
from pathlib import Path
from tokenize import TokenError

import numpy as np

from ..contracts.modality import ModalitySpec
from ..contracts.types import Array, PathLike
from ..errors import RasterError

#: Most bytes of pixels one file may declare.
MAX_NPY_BYTES = 1 << 30
#: What a damaged header makes NumPy raise, found by trying; it is a piece of Python source.
_PARSER_ERRORS = (
    OSError, ValueError, EOFError, SyntaxError, OverflowError, TypeError, MemoryError, TokenError,
)  # fmt: skip


def read_npy(path: PathLike, spec: ModalitySpec) -> Array:
    """Read one patch ``(C, H, W)`` in the manifest's channel order; ``(H, W)`` if C is 1.

    Floats become float32; integers keep their dtype.

    Raises:
        RasterError: Not a regular file, not a plain numeric array, truncated, too large, or of
            another number of channels.
    """
    file = Path(path)
    array = _mapped(file)
    if array.nbytes > MAX_NPY_BYTES:
        raise RasterError(
            f"{file} declares {array.nbytes / 1e9:.3g} GB of pixels, "
            f"expected at most {MAX_NPY_BYTES / 1e9:.3g} GB"
        )
    if array.dtype.kind not in "iuf":
        raise RasterError(f"{file} holds {array.dtype} values, expected integers or floats")
    if array.ndim == 2 and len(spec.channels) == 1:
        array = array[None]
    if array.ndim != 3 or len(array) != len(spec.channels):
        raise RasterError(
            f"{file} has shape {array.shape}, expected ({len(spec.channels)}, height, width)",
            hint=f"Channels must be {', '.join(spec.channels)}, in this order and first",
        )
    kept = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite, then masked
        return np.array(array, kept, order="C")


def npy_channels(path: PathLike) -> int:
    """Return the number of channels of a patch: its first axis, or 1 if it has two axes.

    Raises:
        RasterError: Not a regular file or not a plain array.
    """
    array = _mapped(Path(path))
    return len(array) if array.ndim == 3 else 1


def _mapped(file: Path) -> Array:
    """Map the file, so that a wrong header is found before any memory is spent on it."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise RasterError(f"{file} is not a regular file, expected a .npy file")
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except _PARSER_ERRORS as error:
        raise RasterError(
            f"cannot read {file}: {error}", hint="Write it with numpy.save, without objects"
        ) from error
    if not isinstance(array, np.ndarray):
        raise RasterError(f"{file} is an archive of arrays, expected one array (numpy.save)")
    return array
