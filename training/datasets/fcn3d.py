"""The HDF5 layout of the 3-D FCN: ``/data (n, H, W, T, C)`` and ``/truth (n, H, W)``.

Image series of Landsat surface reflectance and the crop of every pixel. Neighboring series show
neighboring ground, so folds are contiguous, as in the paper's code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.errors import InputError, MissingDependencyError

from .series import MemorySeries

FOLDS = 5
#: Where the folds of the paper's 588 series begin, and their end.
PAPER_BOUNDS = (0, 118, 236, 354, 471, 588)
CLASSES = ("other", "corn", "soybean")
LANDSAT_BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")


def open_fcn3d(where: str | Path, held_out: int = 0) -> MemorySeries:
    """Open a file of series of images.

    Args:
        where: The HDF5 file.
        held_out: Fold 0 to 4 that tests; the next one validates, the others train.

    Raises:
        InputError: Not such a file.
        MissingDependencyError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise MissingDependencyError.for_extra("h5py", "train", "reading HDF5") from None
    file = Path(where)
    try:
        with h5py.File(file, "r") as stored:
            data, truth = stored["data"][()], stored["truth"][()]
    except (OSError, KeyError) as error:
        raise InputError(
            f"cannot read {file}: {error}",
            hint="Expected HDF5 with /data (n, H, W, T, C) and /truth (n, H, W)",
        ) from error
    if data.ndim != 5 or truth.shape != data.shape[:3] or len(data) < FOLDS:
        raise InputError(
            f"{file} holds data {data.shape} and truth {truth.shape}, expected (n, H, W, T, C) and "
            f"(n, H, W), n at least {FOLDS}"
        )
    targets = truth.astype(np.int64)
    if targets.min() < 0 or targets.max() >= len(CLASSES):
        raise InputError(
            f"{file} has classes {targets.min()} to {targets.max()}, expected 0 to "
            f"{len(CLASSES) - 1}: {', '.join(CLASSES)}"
        )
    folds = contiguous_folds(len(data))
    names = {held_out: "test", (held_out + 1) % FOLDS: "val"}
    channels = LANDSAT_BANDS if data.shape[4] == len(LANDSAT_BANDS) else tuple(
        f"band {i + 1}" for i in range(data.shape[4])
    )  # fmt: skip
    is_float = np.issubdtype(data.dtype, np.floating)
    pixels = data.astype(np.float32 if is_float else np.int16)
    return MemorySeries(
        name=file.stem,
        classes=CLASSES,
        groups=tuple(f"fold {fold}" for fold in folds),
        splits=tuple(names.get(int(fold), "train") for fold in folds),
        channels={"optical": channels},
        pixels={"optical": np.ascontiguousarray(pixels.transpose(0, 4, 3, 1, 2))},
        targets=targets,
        contracts={"optical": _contract(channels, pixels)},
    )


def contiguous_folds(count: int) -> npt.NDArray[np.int64]:
    """Return the fold of each of ``count`` series; those of the paper where there are 588."""
    bounds = PAPER_BOUNDS if count == PAPER_BOUNDS[-1] else np.linspace(0, count, FOLDS + 1)
    inner = np.asarray(bounds[1:-1]).round().astype(int)
    return np.searchsorted(inner, np.arange(count), side="right").astype(np.int64)


def _contract(channels: tuple[str, ...], pixels: npt.NDArray[np.generic]) -> ModalitySpec:
    """Reflectance, x 10000 where it is stored as integers or reaches beyond 2."""
    unit = 1e-4 if np.issubdtype(pixels.dtype, np.integer) else None
    if unit is None and float(np.nanmax(pixels)) > 2:
        raise InputError(
            f"data are floats up to {float(np.nanmax(pixels)):g}, expected reflectance in 0 to 1",
            hint="Divide by 10000, or store integers",
        )
    count = len(channels)
    return ModalitySpec(
        channels, "Landsat", "surface reflectance", "reflectance", unit, 0.0, 0.0, (0.0, 1.1),
        (0.0,) * count, (1.0,) * count,
    )  # fmt: skip
