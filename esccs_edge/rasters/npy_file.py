"""Patches stored as NumPy ``.npy`` files: the simplest exchange form, read without pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..contracts.modality import ModalitySpec
from ..contracts.types import Array, PathLike
from ..errors import RasterError
from ..system.regular_file import require_regular

#: Most bytes of pixels one file may declare.
MAX_NPY_BYTES = 1 << 30
_ZIP = b"PK\x03\x04"


def read_npy(path: PathLike, spec: ModalitySpec) -> Array:
    """Read one patch ``(C, H, W)`` in the manifest's channel order; ``(H, W)`` if C is 1.

    Floats become float32; integers keep their dtype.

    Raises:
        RasterError: Not a regular file, not a plain numeric array, truncated, too large, or of
            another number of channels.
    """
    file = Path(path)
    array = map_npy(file)
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
    array = map_npy(Path(path))
    return len(array) if array.ndim == 3 else 1


def map_npy(file: Path) -> Array:
    """Map the file, so that a wrong header is found before any memory is spent on it.

    Raises:
        RasterError: Not a regular file or not a plain array.
    """
    try:
        require_regular(file)
        with file.open("rb") as stream:
            is_archive = stream.read(len(_ZIP)) == _ZIP
        if not is_archive:  # `np.load` would open it as one, or as a pickle
            return np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # a header is Python source; a damaged one raises anything
        said = error.strerror if isinstance(error, OSError) else error
        raise RasterError(
            f"cannot read {file}: {said}", hint="Write it with numpy.save, without objects"
        ) from error
    raise RasterError(f"{file} is an archive of arrays, expected one array (numpy.save)")
