"""The held-out pairs of scene classification, clouded.

Each validation image appears at one cover in every cloud bin, each test image once, the bins
spread evenly over each class.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range

from ..samples.degraded import Degradation, DegradedPairs
from ..simulate.textures import CloudTextures
from ..stages.scene_classification.run import SceneRun
from .heldout import HeldOutSample


def held_out_pairs(run: SceneRun) -> Iterator[HeldOutSample]:
    """Yield the labeled pairs of the validation and test splits, under clouds if simulated."""
    dataset = run.dataset
    for split in ("val", "test"):
        if split not in dataset.splits:
            continue
        parts = _degradations(split, run.options.clouds.simulate, run.textures)
        for number, part in enumerate(parts):
            prefix = f"{split}-{number}" if len(parts) > 1 else split
            for pair in DegradedPairs(dataset, split, part, run.options.seed).labeled():
                recorded = float(dataset.covers[pair.index])
                yield HeldOutSample(
                    name=f"{prefix}-{pair.index}",
                    pixels={"optical": pair.optical, "sar": pair.sar},
                    target=dataset.classes[pair.label],
                    group=dataset.groups[pair.index],
                    split=split,
                    cover=pair.cover if np.isnan(recorded) or pair.cover > 0 else recorded,
                )


def _degradations(split: str, simulate: bool, textures: CloudTextures | None) -> list[Degradation]:
    if not simulate:
        return [Degradation(cover=0.0)]
    if split == "test":
        return [Degradation(cover="stratified", textures=textures)]
    ranges = [bin_range(position) for position in range(len(CLOUD_BINS))]
    return [Degradation(cover=cover, textures=textures) for cover in ranges]
