"""The held-out pairs of scene classification, clouded.

Each validation image appears at one cover in every cloud bin, each test image once, the bins
spread evenly over each class. Missing SAR is simulated from the optical image alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

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
                simulated = {
                    "sar": not dataset.sar_channels and pair.sar is not None,
                    "clouds": pair.cover > 0,
                }
                yield HeldOutSample(
                    name=f"{prefix}-{pair.index}",
                    pixels={"optical": pair.optical, "sar": pair.sar},
                    target=dataset.classes[pair.label],
                    group=dataset.groups[pair.index],
                    split=split,
                    cover=pair.cover if np.isnan(recorded) or pair.cover > 0 else recorded,
                    simulated=tuple(name for name, is_so in simulated.items() if is_so),
                )


def _degradations(split: str, simulate: bool, textures: CloudTextures | None) -> list[Degradation]:
    judged = Degradation(cover=0.0, textures=textures, sar="from pixels")
    if not simulate:
        return [judged]
    if split == "test":
        return [replace(judged, cover="stratified")]
    return [replace(judged, cover=bin_range(position)) for position in range(len(CLOUD_BINS))]
