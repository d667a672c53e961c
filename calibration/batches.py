"""Chosen pairs -> network inputs, through the same preprocessing as everywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.types import Floats, Labels
from esccs_edge.contracts.values import Sample
from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.rasters.pair_index import PairIndex

from .rows import has_maps, load_pixels, load_target
from .sampler import ChosenPair

BATCH_SIZE = 16


@dataclass(frozen=True)
class Batch:
    """Network inputs of a few pairs.

    Attributes:
        inputs: Tensor name -> float32 array with a leading batch axis.
        labels: Class numbers ``(N,)``, or ``(N, H, W)`` with -1 where the class is not known.
        pairs: Where they come from.
    """

    inputs: dict[str, Floats]
    labels: Labels
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
        samples = [load_pixels(index, pair.row, pair.modalities, manifest) for pair in part]
        yield Batch(_inputs(samples, manifest), _labels(index, manifest, part), part)


def _labels(index: PairIndex, manifest: Manifest, pairs: Sequence[ChosenPair]) -> Labels:
    if has_maps(manifest):
        return np.stack([load_target(index, pair.row, manifest) for pair in pairs])
    return np.array([manifest.classes.index(pair.label) for pair in pairs], np.int64)


def _inputs(samples: Sequence[Sample], manifest: Manifest) -> dict[str, Floats]:
    tensors, shares = {}, []
    for name, spec in manifest.modalities.items():
        out = np.empty((len(samples), *manifest.inputs[name].row), np.float32)
        stats = preprocess([sample.pixels[name] for sample in samples], spec, out)
        tensors[name] = out
        shares.append(np.array([seen.availability for seen in stats], np.float32))
    return {**tensors, manifest.availability: np.stack(shares, axis=1)}
