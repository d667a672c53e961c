"""Chosen pairs -> network inputs, through the same preprocessing as everywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.manifest import Manifest, ModalitySpec
from esccs_edge.contracts.values import PatchPair
from esccs_edge.pixels.checks import checked_pair
from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.rasters.pair_index import PairIndex
from esccs_edge.rasters.reader import read_pair

from .sampler import ChosenPair

BATCH_SIZE = 16


@dataclass(frozen=True)
class Batch:
    """Network inputs of a few pairs.

    Attributes:
        inputs: Tensor name -> float32 array with a leading batch axis.
        labels: ``(N,)`` class numbers.
        pairs: Where they come from.
    """

    inputs: dict[str, npt.NDArray[np.float32]]
    labels: npt.NDArray[np.int64]
    pairs: Sequence[ChosenPair]


def load_batches(
    index: PairIndex, manifest: Manifest, pairs: Sequence[ChosenPair]
) -> Iterator[Batch]:
    """Yield the pairs in order, at most `BATCH_SIZE` at a time, read when they are asked for.

    Raises:
        InputError: A pair does not fit the manifest.
        RasterError: A file cannot be read.
    """
    for start in range(0, len(pairs), BATCH_SIZE):
        part = pairs[start : start + BATCH_SIZE]
        scenes = [_read(index, manifest, pair) for pair in part]
        labels = np.array([manifest.classes.index(pair.label) for pair in part])
        yield Batch(_inputs(scenes, manifest), labels, part)


def _read(index: PairIndex, manifest: Manifest, pair: ChosenPair) -> PatchPair:
    row = index.rows[pair.row]
    optical, sar = read_pair(
        row.optical if pair.use_optical else None,
        row.sar if pair.use_sar else None,
        manifest.optical,
        manifest.sar,
    )
    return checked_pair(optical, sar, manifest)


def _inputs(scenes: Sequence[PatchPair], manifest: Manifest) -> dict[str, npt.NDArray[np.float32]]:
    optical, seen = _normalized([s.optical for s in scenes], manifest.optical, manifest.patch_size)
    sar, heard = _normalized([s.sar for s in scenes], manifest.sar, manifest.patch_size)
    return {"optical": optical, "sar": sar, "availability": np.stack([seen, heard], axis=1)}


def _normalized(
    images: list[npt.NDArray[Any] | None], spec: ModalitySpec, size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the tensor ``(N, C, size, size)`` and the availability ``(N,)`` of one modality."""
    out = np.empty((len(images), len(spec.channels), size, size), np.float32)
    stats = preprocess(images, spec, out)
    return out, np.array([seen.availability for seen in stats], np.float32)
