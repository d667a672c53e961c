"""The contracts of both modalities, measured on windows of the training split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError

from ..datasets.map_dataset import MapDataset
from .map_samples import DegradedMaps, MapDegradation
from .specs import CLEAR_SHARE, MAX_PAIRS, measured, optical_spec, sar_spec


def map_specs(
    dataset: MapDataset, degradation: MapDegradation, crop: int, seed: int
) -> tuple[ModalitySpec, ModalitySpec]:
    """Measure the contracts (optical, SAR) on at most `MAX_PAIRS` windows.

    Half of them are clear and half as the student sees them, since it sees both.

    Args:
        dataset: The data set.
        degradation: What the student sees.
        crop: Height and width of a window.
        seed: Chooses the windows and draws the clouds.

    Raises:
        InputError: The training split lacks a modality, or the numbers of one are not known.
    """
    seen = replace(degradation, clear_share=CLEAR_SHARE, drop_share=0.0)
    maps = DegradedMaps(dataset, "train", seen, crop, seed)
    chosen = np.random.default_rng(seed).permutation(len(maps))[:MAX_PAIRS]
    drawn = [maps.get(int(position)).sample for position in chosen]
    found: dict[str, list[Array]] = {
        "optical": [s.optical for s in drawn if s.optical is not None],
        "sar": [s.sar for s in drawn if s.sar is not None],
    }
    for name, images in found.items():
        if not images:
            raise InputError(
                f"the training split of {dataset.name} has no {name} image, expected both",
                hint="A model of optical and SAR learns from both; give images of each",
            )
    known = dataset.contracts
    optical = (
        measured(known["optical"], found["optical"])
        if "optical" in known
        else optical_spec(dataset.optical_channels, found["optical"])
    )
    if "sar" in known:
        return optical, measured(known["sar"], found["sar"])
    return optical, sar_spec(dataset.sar_channels, found["sar"])
