"""What calibration reads of a row of the index: the files of its modalities, its class, its map."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import Modalities
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.types import Array, Labels
from esccs_edge.errors import InputError, RasterError
from esccs_edge.rasters.pair_index import PairRow
from esccs_edge.rasters.reader import read_pair, read_patch

#: Class number of a pixel whose class is not known.
UNKNOWN = -1


def has_maps(manifest: Manifest) -> bool:
    """Tell whether the model is judged by a map of classes per sample, not by one class."""
    return task_named(manifest.task).target == "map"


def files_of(row: PairRow, modalities: Modalities) -> dict[str, Path]:
    """Return the file of each modality that the row has, in their order."""
    files = {name: getattr(row, name, None) for name in modalities}
    return {name: file for name, file in files.items() if file is not None}


def target_of(row: PairRow) -> Path | None:
    """Return the file with the class of every pixel, if the row has one."""
    file: Path | None = getattr(row, "target", None)
    return file


def class_of(row: PairRow, manifest: Manifest) -> str | None:
    """Return the class name of a row, of a map the one with most pixels; None if not known."""
    if not has_maps(manifest):
        return row.label
    if target_of(row) is None:
        return None
    labels = read_target(row, manifest)
    known = labels[labels != UNKNOWN]
    return manifest.classes[int(np.bincount(known).argmax())] if known.size else None


def read_target(row: PairRow, manifest: Manifest) -> Labels:
    """Read the class number of every pixel ``(H, W)``; `UNKNOWN` where it is negative.

    Raises:
        InputError: A number is beyond the class list.
        RasterError: There is no file, it cannot be read, or it is no such map.
    """
    file, classes = target_of(row), len(manifest.classes)
    grid = manifest.sample.height, manifest.sample.width
    try:
        stored = np.load(file or "", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RasterError(f"{file} cannot be read as a map of classes: {error}") from error
    if stored.dtype.kind not in "iu" or stored.shape != grid:
        raise RasterError(f"{file} holds {stored.dtype} {stored.shape}, expected integers {grid}")
    if stored.max() >= classes:
        raise InputError(f"{file} holds class {stored.max()}, expected 0 to {classes - 1}")
    labels: Labels = np.maximum(stored.astype(np.int64), UNKNOWN)
    return labels


def read_pixels(
    row: PairRow, shown: Collection[str], modalities: Modalities
) -> Mapping[str, Array | None]:
    """Read the files of the modalities that are shown, as stored.

    Raises:
        RasterError: A file cannot be read, or two do not lie on the same grid.
    """
    files = {name: f for name, f in files_of(row, modalities).items() if name in shown}
    if len(modalities) != 2:
        return {name: read_patch(file, modalities[name]) for name, file in files.items()}
    first, second = modalities
    pixels = read_pair(files.get(first), files.get(second), modalities[first], modalities[second])
    return dict(zip(modalities, pixels, strict=True))
