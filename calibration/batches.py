"""Chosen pairs -> network inputs, through the same preprocessing as everywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.types import Floats
from esccs_edge.contracts.values import Sample
from esccs_edge.pixels.checks import checked_sample
from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.rasters.pair_index import PairIndex
from esccs_edge.rasters.reader import read_sample

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

    inputs: dict[str, Floats]
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
        samples = [_read(index, manifest, pair) for pair in part]
        labels = np.array([manifest.classes.index(pair.label) for pair in part])
        yield Batch(_inputs(samples, manifest), labels, part)


def _read(index: PairIndex, manifest: Manifest, pair: ChosenPair) -> Sample:
    row = index.rows[pair.row]
    used = {"optical": pair.use_optical, "sar": pair.use_sar}
    paths = {name: path if used[name] else None for name, path in row.paths.items()}
    return checked_sample(read_sample(paths, manifest.modalities), manifest)


def _inputs(samples: Sequence[Sample], manifest: Manifest) -> dict[str, Floats]:
    tensors, shares = {}, []
    for name, spec in manifest.modalities.items():
        out = np.empty((len(samples), *manifest.inputs[name].row), np.float32)
        stats = preprocess([sample.pixels[name] for sample in samples], spec, out)
        tensors[name] = out
        shares.append(np.array([seen.availability for seen in stats], np.float32))
    return {**tensors, "availability": np.stack(shares, axis=1)}
