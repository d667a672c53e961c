"""What calibration reads of a row of the index: the files of its modalities, its class, its map."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.types import Labels
from esccs_edge.contracts.values import Sample
from esccs_edge.errors import InputError, RasterError
from esccs_edge.pixels.checks import checked_sample
from esccs_edge.pixels.radiometry import judged_without_model
from esccs_edge.rasters.pair_index import PairIndex
from esccs_edge.rasters.reader import read_sample


def has_maps(manifest: Manifest) -> bool:
    """Return whether the model is judged by a map of classes per sample, not by one class."""
    return task_named(manifest.task).target == "map"


def class_of(index: PairIndex, i: int, manifest: Manifest) -> str | None:
    """Return the class name of a row, of a map the one for which it is drawn; None if not known."""
    if not has_maps(manifest):
        return index.rows[i].label
    if index.rows[i].target is None:
        return None
    found = task_named(manifest.task).stratum(load_target(index, i, manifest))
    return None if found is None else manifest.classes[found]


def load_target(index: PairIndex, i: int, manifest: Manifest) -> Labels:
    """Read the class number of every pixel ``(H, W)``; -1 where it is not known.

    Raises:
        InputError: A number is beyond the class list.
        RasterError: The file cannot be read, or is not on the manifest's grid.
    """
    labels = index.load_target(i)
    grid = manifest.sample.height, manifest.sample.width
    if labels is None or labels.shape != grid:
        found = None if labels is None else labels.shape
        raise RasterError(f"{index.rows[i].target} has height x width {found}, expected {grid}")
    return labels.astype(np.int64)


def require_usable(
    index: PairIndex, manifest: Manifest, shown: Iterable[tuple[int, Collection[str]]]
) -> None:
    """Read rows and refuse what the model would refuse, before any range is measured.

    Args:
        index: The data set.
        manifest: Contract of the model.
        shown: Row, and the modalities of it that are shown to the network.

    Raises:
        InputError: A pair does not fit the manifest, or its values cannot be what it asks for.
        RasterError: A file cannot be read.
    """
    for row, modalities in shown:
        try:
            sample = load_pixels(index, row, modalities, manifest)
            judged_without_model(sample, manifest.modalities)
        except InputError as error:
            files = " + ".join(str(path) for path in index.rows[row].paths.values() if path)
            raise InputError(f"{files}: {error.message}", hint=error.hint) from error


def load_pixels(index: PairIndex, i: int, shown: Collection[str], manifest: Manifest) -> Sample:
    """Read the files of the modalities that are shown to the network.

    Raises:
        InputError: They do not fit the manifest.
        RasterError: A file cannot be read, or two do not lie on the same grid.
    """
    paths = {name: path for name, path in index.rows[i].paths.items() if name in shown}
    pixels = read_sample(paths, manifest.modalities, manifest.sample.pixel_size_m)
    return checked_sample(pixels, manifest)
