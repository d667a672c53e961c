"""Per-channel statistics of a training split, as the manifest's modality contracts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.sensors import (
    SENTINEL1_POLARIZATIONS,
    SENTINEL2_DN_SCALE,
    SENTINEL2_L1C_BANDS,
    SENTINEL2_NODATA,
)
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError

from ..datasets.dataset import PairDataset
from ..simulate.textures import CloudTextures
from .degraded import Degradation, DegradedPairs, SarSource

#: Pairs of the training split that are measured.
MAX_PAIRS = 400
#: Share of measured pairs that are exactly clear; the rest has covers uniform in [0, 1].
CLEAR_SHARE = 0.5
OPTICAL_CLIP = (0.0, 1.1)
SAR_CLIP_DB = (-35.0, 5.0)
MIN_STD = 1e-3


def modality_specs(
    dataset: PairDataset,
    seed: int = 0,
    textures: CloudTextures | None = None,
    real: PairDataset | None = None,
    sar_source: SarSource = "from pixels",
) -> tuple[ModalitySpec, ModalitySpec]:
    """Measure the contracts (optical, SAR) on the training split.

    Half of the pairs are clear and half are clouded with covers uniform in [0, 1], since the
    student sees both. At most `MAX_PAIRS` pairs of each set are measured, chosen by ``seed``.

    Args:
        dataset: The data set.
        seed: Chooses the pairs and draws the clouds.
        textures: Real cloud shapes and spectra.
        real: Truly cloudy pairs of the same channels that are learned too.
        sar_source: What stands in where the data set has no SAR.

    Raises:
        InputError: The training split has no pair of some modality, or its dtype is unknown.
    """
    degradation = Degradation(clear_share=CLEAR_SHARE, textures=textures, sar=sar_source)
    drawn = []
    for part in (dataset, real):
        if part is not None:
            pairs = DegradedPairs(part, "train", degradation, seed)
            chosen = np.random.default_rng(seed).permutation(len(pairs))[:MAX_PAIRS]
            drawn += [pairs.get(int(position)) for position in chosen]
    optical = [pair.optical for pair in drawn if pair.optical is not None]
    sar = [pair.sar for pair in drawn if pair.sar is not None]
    for name, found in (("optical", optical), ("SAR", sar)):
        if not found:
            raise InputError(f"the training split of {dataset.name} has no {name} patch")
    return optical_spec(dataset.optical_channels, optical), sar_spec(
        dataset.sar_channels or SENTINEL1_POLARIZATIONS, sar
    )


def optical_spec(channels: tuple[str, ...], patches: Sequence[Array]) -> ModalitySpec:
    """Measure the optical contract on raw patches ``(C, H, W)``."""
    if set(channels) <= set(SENTINEL2_L1C_BANDS) and patches[0].dtype != np.uint8:
        level = "L1C" if "B10" in channels else "L1C or L2A"
        return _measured(
            patches, channels, "Sentinel-2 MSI", level, "reflectance", SENTINEL2_DN_SCALE,
            float(SENTINEL2_NODATA), OPTICAL_CLIP,
        )  # fmt: skip
    return _picture_spec(channels, patches, "optical")


def sar_spec(channels: tuple[str, ...], patches: Sequence[Array]) -> ModalitySpec:
    """Measure the SAR contract on raw patches ``(P, H, W)``."""
    if np.issubdtype(patches[0].dtype, np.floating):
        return _measured(
            patches, channels, "Sentinel-1 SAR-C", "GRD IW", "dB", None, 0.0, SAR_CLIP_DB
        )
    return _picture_spec(channels, patches, "SAR")


def _picture_spec(channels: tuple[str, ...], patches: Sequence[Array], what: str) -> ModalitySpec:
    """Contract of 8-bit pictures; black is a value there, so nothing marks absent pixels."""
    if patches[0].dtype != np.uint8:
        raise InputError(
            f"{what} patches are {patches[0].dtype} with channels {channels}, expected uint8 "
            "pictures or named Sentinel channels"
        )
    return _measured(patches, channels, f"{what} picture", "8-bit", "dn", 1 / 255, None, (0.0, 1.0))


def _measured(
    patches: Sequence[Array],
    channels: tuple[str, ...],
    sensor: str,
    level: str,
    unit: str,
    dn_scale: float | None,
    nodata: float | None,
    clip: tuple[float, float],
) -> ModalitySpec:
    zeros, ones = (0.0,) * len(channels), (1.0,) * len(channels)
    spec = ModalitySpec(channels, sensor, level, unit, dn_scale, 0.0, nodata, clip, zeros, ones)
    return measured(spec, patches)


def measured(spec: ModalitySpec, patches: Sequence[Array]) -> ModalitySpec:
    """Return a contract with mean and standard deviation over valid pixels, in double precision.

    Args:
        spec: What the numbers are; its own statistics are not used.
        patches: Raw patches ``(C, H, W)``.

    Raises:
        InputError: No pixel is valid.
    """
    total: Any = 0.0
    squares: Any = 0.0
    count = 0
    for patch in patches:
        valid = spec.valid_mask(patch)
        is_dn = np.issubdtype(patch.dtype, np.integer)
        scale = spec.dn_scale if is_dn and spec.dn_scale is not None else 1.0
        values = np.clip(patch[:, valid].astype(np.float64) * scale, *spec.clip)
        total, squares = total + values.sum(axis=1), squares + (values**2).sum(axis=1)
        count += int(valid.sum())
    if not count:
        raise InputError("the training split has no valid pixel")
    mean = total / count
    std = np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0.0)), MIN_STD)
    return replace(
        spec, mean=tuple(np.round(mean, 6).tolist()), std=tuple(np.round(std, 6).tolist())
    )
