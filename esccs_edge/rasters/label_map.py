"""A file that holds the class of every pixel: what a task with maps learns and is judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contracts.modality import ModalitySpec
from ..contracts.types import Array, PathLike
from ..errors import RasterError
from .npy_file import read_npy
from .reader import require_place_of

#: Stands for a pixel whose class is not known.
NO_LABEL = -1

#: One channel of numbers as they are stored.
_NUMBERS = ModalitySpec(
    channels=("class",), sensor="", level="", unit="dn", dn_scale=1.0, dn_offset=0.0, nodata=None,
    clip=(0.0, 255.0), mean=(0.0,), std=(1.0,),
)  # fmt: skip


def read_label_map(path: PathLike, image: PathLike | None = None) -> npt.NDArray[np.int32]:
    """Read class numbers; they are never interpolated.

    Args:
        path: GeoTIFF or PNG of one integer band, with or without a color table, or ``.npy`` of
            shape ``(H, W)``.
        image: An image of the same pixels. Where both files say where they lie, it has to be the
            same place.

    Returns:
        ``(H, W)``: positions in the class list; `NO_LABEL` where the number is negative or the
        file declares the pixel absent.

    Raises:
        RasterError: The file cannot be read, holds more than one band or other than integers, or
            lies elsewhere than the image.
    """
    file = Path(path)
    if image is not None:
        require_place_of(file, image)
    if file.suffix.lower() == ".npy":
        numbers: Array = read_npy(file, _NUMBERS)[0]
        absent = numbers < 0
    else:
        from .raster_file import read_only_band

        numbers, absent = read_only_band(file)
    if numbers.dtype.kind not in "iu":
        raise RasterError(f"{file} holds {numbers.dtype} values, expected integer class numbers")
    labels = numbers.astype(np.int32)
    labels[absent | (labels < 0)] = NO_LABEL
    return labels
