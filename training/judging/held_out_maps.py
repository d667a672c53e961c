"""The held-out windows of semantic segmentation, clouded: what calibration and evaluation read.

Each validation window appears at one cover in every cloud bin, each test window once, the bins in
turn. Label maps are brought to the grid of the images, which is the grid of the answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.rasters.label_map import NO_LABEL

from ..datasets.map_dataset import IGNORED, repeated
from ..datasets.stored_samples import StoredSample
from ..samples.map_samples import DegradedMaps, MapDegradation
from ..stages.semantic_segmentation.run import MapRun


def held_out_windows(run: MapRun) -> Iterator[StoredSample]:
    """Yield the windows of the held-out splits, or of the training split where all train."""
    held_out = [split for split in ("val", "test") if split in run.dataset.splits]
    for split in held_out or ["train"]:
        for number, maps in enumerate(_parts(run, split)):
            for position in range(len(maps)):
                every_bin = split == "val" or not run.options.clouds.simulate
                if not every_bin and position % len(CLOUD_BINS) != number:
                    continue
                yield _sample(run, maps, position, f"{split}-{number}-{position}",
                              split if held_out else "val")  # fmt: skip


def _parts(run: MapRun, split: str) -> list[DegradedMaps]:
    judged = MapDegradation(cover=None, mask=run.options.cloud_mask, textures=run.textures)
    parts = [judged]
    if run.options.clouds.simulate:
        parts = [
            replace(judged, cover=bin_range(position), mask="simulator")
            for position in range(len(CLOUD_BINS))
        ]
    return [
        DegradedMaps(run.dataset, split, part, run.options.crop, run.options.seed) for part in parts
    ]


def _sample(run: MapRun, maps: DegradedMaps, position: int, name: str, split: str) -> StoredSample:
    found = maps.get(position)
    target = repeated(found.sample.target, found.sample.size).astype(np.int16)
    target[target == IGNORED] = NO_LABEL
    is_cloudy = found.clouds_simulated or run.options.cloud_mask != "simulator"
    return StoredSample(
        name=name,
        pixels={"optical": found.sample.optical, "sar": found.sample.sar},
        target=target,
        group=run.dataset.groups[found.index],
        split=split,
        cover=found.cover if is_cloudy else None,
        simulated=(*run.dataset.simulated, *["clouds"] * found.clouds_simulated),
    )
