"""Held-out pairs as files: what calibration and evaluation of the finished bundle read.

Each validation image appears at one cover in every cloud bin, each test image once, the bins
spread evenly over each class.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.rasters.pair_index import PairRow, write_index

from ..datasets import PairSource
from ..samples.degraded import Degradation, DegradedPair, DegradedPairs
from ..samples.recorded_covers import recorded_covers
from ..simulate.textures import CloudTextures

INDEX_NAME = "index.csv"


def write_heldout(
    folder: Path, source: PairSource, *, simulate: bool, textures: CloudTextures | None, seed: int
) -> Path:
    """Write the labeled pairs of the validation and test splits; replaces an earlier folder.

    Args:
        folder: Gets ``index.csv`` and one ``.npy`` file per patch.
        source: Data set.
        simulate: Lay simulated clouds over the images; otherwise they stay as they are.
        textures: Real cloud shapes and spectra for the simulation, or None.
        seed: Seed of the clouds.

    Returns:
        The index file, written last.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = []
    for split in ("val", "test"):
        if split in source.splits:
            parts = _degradations(split, simulate, textures)
            for number, part in enumerate(parts):
                pairs = DegradedPairs(source, split, part, seed)
                prefix = f"{split}-{number}" if len(parts) > 1 else split
                rows += [_write(folder, prefix, pair, source, split) for pair in labeled(pairs)]
    write_index(folder / INDEX_NAME, rows)
    return folder / INDEX_NAME


def labeled(pairs: DegradedPairs) -> Iterator[DegradedPair]:
    """Iterate over the pairs with a known label, in order."""
    for position in np.flatnonzero(pairs.labels >= 0):
        yield pairs.get(int(position))


def _degradations(split: str, simulate: bool, textures: CloudTextures | None) -> list[Degradation]:
    if not simulate:
        return [Degradation(cover=0.0)]
    if split == "test":
        return [Degradation(cover="stratified", textures=textures)]
    ranges = [bin_range(position) for position in range(len(CLOUD_BINS))]
    return [Degradation(cover=cover, textures=textures) for cover in ranges]


def _write(
    folder: Path, prefix: str, pair: DegradedPair, source: PairSource, split: str
) -> PairRow:
    stem = f"{prefix}-{pair.index}"
    recorded = recorded_covers(source)[pair.index]
    cover = pair.cover if np.isnan(recorded) or pair.cover > 0 else float(recorded)
    return PairRow(
        _save(folder / f"{stem}-optical.npy", pair.optical),
        _save(folder / f"{stem}-sar.npy", pair.sar),
        source.classes[pair.label],
        source.groups[pair.index],
        split,
        cover,
    )


def _save(path: Path, pixels: npt.NDArray[np.generic] | None) -> Path | None:
    if pixels is None:
        return None
    np.save(path, pixels)
    return path
