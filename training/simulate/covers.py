"""Ground cover read from the pixels of a clear optical patch.

Fixed spectral rules, soft at their edges so that mixed pixels get mixed shares. Nothing is learned
and no label is looked at, so a simulation that follows these shares may judge as well as teach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from esccs_edge.contracts.types import Array, Floats

from .light import UNITS_PER_REFLECTANCE
from .noise import box_mean

COVERS = ("water", "trees", "low", "bare", "built")
#: Pixels around a pixel that are looked at for roofs and streets (about 130 m).
TOWN_RADIUS = 6


@dataclass(frozen=True)
class Structure:
    """What the clear optical patch shows, each ``(H, W)`` float32.

    Attributes:
        water: Share of open water, in [0, 1].
        ndvi: Vegetation index, in [-1, 1].
        brightness: Mean of green and red reflectance.
        contrast: Local contrast of brightness, in [0, 1].
        dark: How dark the canopy is, in [0, 1]; trees shade themselves.
        town: How much roofs and streets are around, in [0, 1].
    """

    water: Floats
    ndvi: Floats
    brightness: Floats
    contrast: Floats
    dark: Floats
    town: Floats


def read_structure(optical: Array, bands: Sequence[str]) -> Structure:
    """Measure water, vegetation, brightness, contrast and town of a clear patch.

    Pixels without data (zero or not finite in green) take the middle of the others. Without B03,
    B04 and B08 only brightness and contrast are read; without B11 turbid water looks like ground
    and dry, rough ground like a town.
    """
    scale = np.float32(1.0 / UNITS_PER_REFLECTANCE.get(optical.dtype.str[1:], 1.0))
    place = {name: i for i, name in enumerate(bands)}
    known = {"B03", "B04", "B08"} <= place.keys()
    if known:
        names = ("B03", "B04", "B08", "B11") if "B11" in place else ("B03", "B04", "B08")
        picked = np.stack([optical[place[name]] for name in names]).astype(np.float32) * scale
    else:
        picked = optical.astype(np.float32).mean(axis=0, keepdims=True) * scale
    _fill(picked)
    if not known:
        brightness = picked[0]
        flat = np.zeros_like(brightness)
        contrast = _contrast(brightness)
        return Structure(flat, flat + np.float32(0.4), brightness, contrast, flat, flat)
    green, red, nir = picked[:3]
    brightness = 0.5 * (green + red)
    ndvi = _index(nir, red)
    contrast = _contrast(brightness)
    water = step(_index(green, nir), 0.05, 0.06)
    town = step(box_mean(contrast, TOWN_RADIUS), 0.45, 0.15) * (1 - step(ndvi, 0.38, 0.15))
    if len(picked) == 4:
        wet = _index(green, picked[3])
        water = np.maximum(water, step(wet, 0.22, 0.08))
        # Dry soil and rock reflect far more in the short-wave infrared than roofs do.
        town = town * step(wet, -0.3, 0.08)
    water = water * step(0.16 - nir, 0.0, 0.02)
    # Crops in full growth are as dark in red as trees are, and brighter in the near infrared.
    dark = step(0.115 - brightness, 0.02, 0.03) * step(0.31 - nir, 0.0, 0.06)
    return Structure(water, ndvi, brightness, contrast, dark, town)


def cover_shares(structure: Structure, trees: Floats, built: Floats) -> Floats:
    """Shares ``(5, H, W)`` of the covers in `COVERS` order, summing to 1.

    Args:
        structure: The clear patch.
        trees: How much of the vegetation is trees, ``(H, W)``; cut to [0, 1].
        built: How much of the unvegetated ground is built, ``(H, W)``; cut to [0, 1].
    """
    land = 1.0 - structure.water
    green = step(structure.ndvi, 0.38, 0.15)
    roofs = land * np.clip(built, 0.0, 1.0)
    rest = land - roofs
    wood = rest * np.clip(trees, 0.0, 1.0)
    low = (rest - wood) * green
    return np.stack([structure.water, wood, low, rest - wood - low, roofs])


def step(value: Floats, middle: float, width: float) -> Floats:
    """Rise linearly from 0 to 1 within ``width`` of ``middle``."""
    share = (value - np.float32(middle - width)) / np.float32(2 * width)
    return np.asarray(np.clip(share, 0.0, 1.0), np.float32)


def _index(first: Floats, second: Floats) -> Floats:
    return np.asarray((first - second) / (first + second + np.float32(1e-4)), np.float32)


def _fill(picked: Floats) -> None:
    """Put the middle of the known pixels where green is zero or not finite."""
    unknown = ~(picked[0] > 0) | ~np.isfinite(picked).all(axis=0)
    if unknown.any():
        middle = np.median(picked[:, ~unknown], axis=1) if not unknown.all() else 0.1
        picked[:, unknown] = np.reshape(middle, (-1, 1))


def _contrast(brightness: Floats) -> Floats:
    """Local standard deviation of log brightness, mapped so that fields are 0 and roofs 1."""
    logarithm = np.log(np.maximum(brightness, np.float32(0.01)))
    mean, squares = box_mean(np.stack([logarithm, logarithm**2]), 2)
    return step(np.sqrt(np.maximum(squares - mean**2, 0.0)), 0.11, 0.08)
