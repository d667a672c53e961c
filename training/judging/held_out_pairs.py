"""The held-out pairs of scene classification, clouded.

Each validation image appears at one cover in every cloud bin, each test image once, the bins
spread evenly over each class. Missing SAR is simulated from the optical image alone. Where every
pair trains there are none, and the training pairs stand in as ``"val"``, each once: INT8 ranges may
be measured on them, accuracy may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range

from ..datasets.stored_samples import StoredSample
from ..samples.degraded import Degradation, DegradedPairs
from ..simulate.textures import CloudTextures
from ..stages.scene_classification.run import SceneRun


def held_out_pairs(run: SceneRun) -> Iterator[StoredSample]:
    """Yield the labeled pairs that calibration may read, under clouds if these are simulated."""
    dataset = run.dataset
    held_out = [split for split in ("val", "test") if split in dataset.splits]
    for split in held_out or ["train"]:
        parts = _degradations(split, run.options.clouds.simulate, run.textures)
        for number, part in enumerate(parts):
            prefix = f"{split}-{number}" if len(parts) > 1 else split
            for pair in DegradedPairs(dataset, split, part, run.options.seed).labeled():
                recorded = float(dataset.covers[pair.index])
                simulated = {
                    "sar": not dataset.sar_channels and pair.sar is not None,
                    "clouds": pair.cover > 0,
                }
                yield StoredSample(
                    name=f"{prefix}-{pair.index}",
                    pixels={"optical": pair.optical, "sar": pair.sar},
                    target=dataset.classes[pair.label],
                    group=dataset.groups[pair.index],
                    split=split if held_out else "val",
                    cover=pair.cover if np.isnan(recorded) or pair.cover > 0 else recorded,
                    simulated=tuple(name for name, is_so in simulated.items() if is_so),
                )


def _degradations(split: str, simulate: bool, textures: CloudTextures | None) -> list[Degradation]:
    judged = Degradation(cover=0.0, textures=textures, sar="from pixels")
    if not simulate:
        return [judged]
    if split != "val":
        return [replace(judged, cover="stratified")]
    return [replace(judged, cover=bin_range(position)) for position in range(len(CLOUD_BINS))]
