"""Raw pixels to time peers with, in files that all of them map.

They are simulated: smooth fields around the mean of the training pixels, as wide as their standard
deviation, much alike in all channels. White noise would do for the time, but it drives a quantised
network out of the range it was calibrated for, and peers could not be held to the same labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec

SEED = 1
#: Standard deviations, in those of the training pixels: of a whole pair, of what all channels
#: share, of each channel alone, of single pixels.
LEVEL, SHARED, ALONE, GRAIN = 0.5, 0.6, 0.3, 0.15
#: Pixels between the places of a field that are drawn; in between it is linear.
SPACING = 8


def write_pixels(folder: Path, manifest: Manifest, count: int) -> Path:
    """Write ``optical.npy`` and ``sar.npy``, ``(count, channels, H, W)``; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    for name in ("optical", "sar"):
        spec = manifest.modalities[name]
        pairs = [_stored(spec, manifest.sample.height, rng) for _ in range(count)]
        np.save(folder / f"{name}.npy", np.stack(pairs))
    return folder


def _stored(spec: ModalitySpec, size: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Return one patch as its sensor would store it, digital numbers where there are any."""
    channels = len(spec.channels)
    mean, std = (np.asarray(values)[:, None, None] for values in (spec.mean, spec.std))
    noise = rng.standard_normal((channels, size, size), np.float32)
    drawn = SHARED * _smooth(1, size, rng) + ALONE * _smooth(channels, size, rng) + GRAIN * noise
    values = mean + std * (LEVEL * rng.standard_normal() + drawn)
    values = np.clip(values, *spec.clip)
    if spec.dn_scale is None:
        return values.astype(np.float32)
    stored = np.rint(values / spec.dn_scale - spec.dn_offset)
    return np.clip(stored, 1, np.iinfo(np.uint16).max).astype(np.uint16)


def _smooth(channels: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    count = max(size // SPACING, 1) + 1
    knots = rng.standard_normal((channels, count, count))
    at = np.linspace(0, count - 1, size)
    left = np.minimum(at.astype(int), count - 2)
    weights = np.zeros((size, count))
    weights[np.arange(size), left] = 1 - (at - left)
    weights[np.arange(size), left + 1] = at - left
    return np.asarray(weights @ knots @ weights.T)
