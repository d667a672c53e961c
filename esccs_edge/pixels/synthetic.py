"""Synthetic raw pixels in the form a manifest asks for: to time, to check, to exchange answers on.

Random pairs are white noise. Smooth pairs look more like what a network was trained on: white noise
drives a quantized network out of the range it was calibrated for, so two runtimes may give other
labels for it. Waves hold no random number at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest, ModalitySpec
from ..contracts.values import PatchPair

Float = npt.NDArray[np.float32]

#: Spread of a smooth patch in standard deviations of the training pixels: of the level of a whole
#: patch, of what all its channels share, of each channel alone, of single pixels.
LEVEL, SHARED, ALONE, GRAIN = 0.5, 0.6, 0.3, 0.15


def random_pairs(manifest: Manifest, count: int) -> list[PatchPair]:
    """Return pairs of random digital numbers (or physical values); the same at every call."""
    rng = np.random.default_rng(0)
    size = manifest.patch_size
    return [
        PatchPair(_random(manifest.optical, size, rng), _random(manifest.sar, size, rng))
        for _ in range(count)
    ]


def smooth_pairs(manifest: Manifest, count: int) -> list[PatchPair]:
    """Return pairs of smooth fields around the mean of the training pixels; always the same."""
    rng = np.random.default_rng(1)
    size = manifest.patch_size
    return [
        PatchPair(
            _smooth_patch(manifest.optical, size, rng), _smooth_patch(manifest.sar, size, rng)
        )
        for _ in range(count)
    ]


def smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return unit-variance noise, averaged over 5 x 5 pixels with wrap-around."""
    field = rng.normal(0, 1, shape)
    for axis in (-2, -1):
        field = np.sum([np.roll(field, shift, axis) for shift in range(-2, 3)], axis=0)
    return np.asarray(field / 5.0)


def waves(spec: ModalitySpec, size: int) -> Float:
    """Return waves of one standard deviation around each channel's mean, ``(C, size, size)``."""
    rows, columns = np.mgrid[:size, :size] * (2 * np.pi / size)
    phases = np.arange(len(spec.channels))[:, None, None]
    wave = np.sin(2 * rows + phases) * np.cos(3 * columns - phases)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (spec.mean, spec.std))
    return np.asarray(np.clip(mean + std * wave, *spec.clip), np.float32)


def _random(spec: ModalitySpec, size: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    shape = (len(spec.channels), size, size)
    if spec.dn_scale is not None:
        return rng.integers(200, 6000, shape, np.uint16)
    return rng.uniform(*spec.clip, shape).astype(np.float32)


def _smooth_patch(spec: ModalitySpec, size: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Return one patch as its sensor would store it, digital numbers where there are any."""
    shape = (len(spec.channels), size, size)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (spec.mean, spec.std))
    drawn = LEVEL * rng.standard_normal() + SHARED * smooth(rng, (1, size, size))
    drawn = drawn + ALONE * smooth(rng, shape) + GRAIN * rng.standard_normal(shape)
    values = np.clip(mean + std * drawn, *spec.clip)
    if spec.dn_scale is None:
        return values.astype(np.float32)
    numbers = np.rint(values / spec.dn_scale - spec.dn_offset)
    return np.clip(numbers, 1, np.iinfo(np.uint16).max).astype(np.uint16)
