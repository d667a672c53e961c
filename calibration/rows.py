"""What calibration reads of a row of the index: the files of its modalities, its class, its map."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.types import Labels
from esccs_edge.contracts.values import Sample
from esccs_edge.errors import RasterError
from esccs_edge.pixels.checks import checked_sample
from esccs_edge.rasters.label_map import NO_LABEL
from esccs_edge.rasters.pair_index import PairIndex
from esccs_edge.rasters.reader import read_sample


def has_maps(manifest: Manifest) -> bool:
    """Return whether the model is judged by a map of classes per sample, not by one class."""
    return task_named(manifest.task).target == "map"


def class_of(index: PairIndex, i: int, manifest: Manifest) -> str | None:
    """Return the class name of a row, of a map the one with most pixels; None if not known."""
    if not has_maps(manifest):
        return index.rows[i].label
    if index.rows[i].target is None:
        return None
    labels = load_target(index, i, manifest)
    known = labels[labels != NO_LABEL]
    return manifest.classes[int(np.bincount(known).argmax())] if known.size else None


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


def load_pixels(index: PairIndex, i: int, shown: Collection[str], manifest: Manifest) -> Sample:
    """Read the files of the modalities that are shown to the network.

    Raises:
        InputError: They do not fit the manifest.
        RasterError: A file cannot be read, or two do not lie on the same grid.
    """
    paths = {name: path for name, path in index.rows[i].paths.items() if name in shown}
    return checked_sample(read_sample(paths, manifest.modalities), manifest)
