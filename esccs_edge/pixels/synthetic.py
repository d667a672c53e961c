"""Synthetic raw pixels in the form a manifest asks for: to time, to check, to exchange answers on.

Random samples are white noise. Smooth ones look more like what a network was trained on: white
noise drives a quantized network out of the range it was calibrated for, so two runtimes may give
other labels for it. Waves hold no random number at all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec
from ..contracts.types import Array, Floats
from ..contracts.values import Sample

#: Spread of a smooth patch in standard deviations of the training pixels: of the level of a whole
#: patch, of what all its channels share, of each channel alone, of single pixels.
LEVEL, SHARED, ALONE, GRAIN = 0.5, 0.6, 0.3, 0.15


def random_samples(manifest: Manifest, count: int) -> list[Sample]:
    """Return samples of random digital numbers (or stored floats); the same at every call."""
    return _samples(manifest, count, _random, seed=0)


def smooth_samples(manifest: Manifest, count: int) -> list[Sample]:
    """Return samples of smooth fields around the mean of the training pixels; always the same."""
    return _samples(manifest, count, _smooth_patch, seed=1)


def smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return unit-variance noise, averaged over 5 x 5 pixels with wrap-around.

    Along an axis of one pixel there is nothing to average.
    """
    field = rng.normal(0, 1, shape)
    axes = [axis for axis in (-2, -1) if shape[axis] > 1]
    for axis in axes:
        field = np.sum([np.roll(field, shift, axis) for shift in range(-2, 3)], axis=0)
    return np.asarray(field / 5.0 ** (len(axes) / 2))


def waves(spec: ModalitySpec, grid: tuple[int, int]) -> Floats:
    """Return waves of one standard deviation around each channel's mean, ``(C, H, W)``."""
    height, width = grid
    rows, columns = np.mgrid[:height, :width] * 2 * np.pi
    rows, columns = rows / height, columns / width
    phases = np.arange(len(spec.channels))[:, None, None]
    wave = np.sin(2 * rows + phases) * np.cos(3 * columns - phases)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (spec.mean, spec.std))
    return np.asarray(np.clip(mean + std * wave, *spec.clip), np.float32)


def _samples(
    manifest: Manifest,
    count: int,
    patch: Callable[[ModalitySpec, tuple[int, int], np.random.Generator], Array],
    seed: int,
) -> list[Sample]:
    rng = np.random.default_rng(seed)
    grid = manifest.sample.grid
    specs = manifest.modalities
    return [
        Sample({name: patch(spec, grid, rng) for name, spec in specs.items()}) for _ in range(count)
    ]


def _random(spec: ModalitySpec, grid: tuple[int, int], rng: np.random.Generator) -> Array:
    shape = (len(spec.channels), *grid)
    if spec.dn_scale is None or spec.is_linear:
        return spec.stored_floats(rng.uniform(*spec.clip, shape))
    return rng.integers(200, 6000, shape, np.uint16)


def _smooth_patch(spec: ModalitySpec, grid: tuple[int, int], rng: np.random.Generator) -> Array:
    """Return one patch as its sensor would store it, digital numbers where there are any."""
    shape = (len(spec.channels), *grid)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (spec.mean, spec.std))
    drawn = LEVEL * rng.standard_normal() + SHARED * smooth(rng, (1, *grid))
    drawn = drawn + ALONE * smooth(rng, shape) + GRAIN * rng.standard_normal(shape)
    values = np.clip(mean + std * drawn, *spec.clip)
    if spec.dn_scale is None or spec.is_linear:
        return spec.stored_floats(values)
    numbers = np.rint(values / spec.dn_scale - spec.dn_offset)
    return np.clip(numbers, 1, np.iinfo(np.uint16).max).astype(np.uint16)
