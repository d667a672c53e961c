"""Simulated Sentinel-1 backscatter (sigma0, VV and VH, dB) for optical patches without SAR.

Simulated, never measured. Each pixel is a mixture of five ground covers (water, trees, low
vegetation, bare ground, built) whose shares come from the clear optical patch (water index,
NDVI, darkness, contrast) and from what is typical for the class. Each cover has a typical
backscatter at C band; each patch draws its own offsets (wind, moisture, incidence and aspect
angle), fields of one color share an offset, buildings add bright double-bounce points, and
Gamma speckle with the looks of GRD IW is applied last. Only the clear optical patch is read, so
the result cannot depend on simulated clouds. A class that is not in the table gets the structure
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Array, Floats

from .clouds import UNITS_PER_REFLECTANCE
from .noise import box_mean, power_law_field
from .speckle import GRD_IW_LOOKS, speckle

#: One number for a patch, or a field ``(H, W)`` where classes differ from pixel to pixel.
Amount = float | Floats

COVERS = ("water", "trees", "low", "bare", "built")
#: Typical sigma0 in dB of each cover at C band and 30 to 45 degrees incidence.
VV_DB = np.array([-19.5, -9.0, -11.5, -12.8, -4.5], np.float32)
VH_DB = np.array([-26.5, -14.8, -18.0, -20.5, -12.0], np.float32)
#: Standard deviation in dB of a cover's level from patch to patch (water: wind).
LEVEL_STD_DB = np.array([2.8, 0.9, 1.4, 1.7, 2.2], np.float32)
#: Noise-equivalent sigma0 of the instrument, added to both channels.
NOISE_DB = -28.0


@dataclass(frozen=True)
class GroundProfile:
    """What is typical of a class beyond what its optical structure shows.

    Attributes:
        trees: Share of the vegetation that scatters like trees.
        built: Share of the contrasty, unvegetated ground that scatters like buildings.
        fields_db: Standard deviation in dB between fields of different color.
        relief_db: Standard deviation in dB of smooth change by terrain slope.
        points: Bright double-bounce points per 1000 pixels.
    """

    trees: Amount
    built: Amount
    fields_db: Amount
    relief_db: Amount
    points: Amount


STRUCTURE_ONLY = GroundProfile(trees=0.3, built=0.3, fields_db=1.5, relief_db=0.8, points=2.0)
_FOREST = GroundProfile(0.9, 0.0, 0.6, 1.2, 0.0)
_CROPS = GroundProfile(0.05, 0.02, 2.6, 0.4, 0.5)
_GRASS = GroundProfile(0.12, 0.02, 1.1, 0.7, 0.3)
_SHRUB = GroundProfile(0.3, 0.02, 1.1, 1.6, 0.3)
_TOWN = GroundProfile(0.3, 0.65, 0.8, 0.4, 12.0)
_WATER = GroundProfile(0.3, 0.05, 1.0, 0.3, 0.5)
#: EuroSAT classes, then the simplified IGBP classes of SEN12MS.
PROFILES = {
    "AnnualCrop": _CROPS,
    "Forest": _FOREST,
    "HerbaceousVegetation": _SHRUB,
    "Highway": GroundProfile(0.2, 0.25, 1.4, 0.5, 2.0),
    "Industrial": GroundProfile(0.15, 0.8, 1.0, 0.3, 22.0),
    "Pasture": _GRASS,
    "PermanentCrop": GroundProfile(0.3, 0.05, 1.5, 1.0, 1.2),
    "Residential": _TOWN,
    "River": GroundProfile(0.35, 0.05, 1.4, 0.4, 1.0),
    "SeaLake": _WATER,
    "Shrubland": _SHRUB,
    "Savanna": _SHRUB,
    "Grassland": _GRASS,
    "Wetlands": _GRASS,
    "Croplands": _CROPS,
    "Urban": _TOWN,
    "Barren": GroundProfile(0.0, 0.0, 1.2, 2.0, 0.2),
    "Water": _WATER,
}


def simulate_sar(
    optical: Array,
    bands: Sequence[str],
    class_name: str,
    rng: np.random.Generator,
    looks: float = GRD_IW_LOOKS,
) -> npt.NDArray[np.float32]:
    """Simulate the SAR patch of a clear optical patch.

    Args:
        optical: ``(C, H, W)`` clear digital numbers or float reflectance.
        bands: Channel names; without B03, B04 and B08 only brightness and contrast are used.
        class_name: Scene class; an unknown one gives the structure alone.
        rng: Source of randomness.
        looks: Equivalent number of looks of the speckle.

    Returns:
        ``(2, H, W)`` sigma0 in dB, VV then VH.
    """
    return _simulate(optical, bands, PROFILES.get(class_name, STRUCTURE_ONLY), rng, looks)


def simulate_sar_scene(
    optical: Array,
    bands: Sequence[str],
    labels: npt.NDArray[np.integer[Any]],
    classes: Sequence[str],
    rng: np.random.Generator,
    looks: float = GRD_IW_LOOKS,
) -> npt.NDArray[np.float32]:
    """Simulate one acquisition over a scene of several classes.

    Like `simulate_sar`, with ``labels`` ``(H, W)`` as positions in ``classes``; wind, moisture
    and angles are drawn once for the whole scene.
    """
    profiles = [PROFILES.get(name, STRUCTURE_ONLY) for name in classes]
    table = np.array([(p.trees, p.built, p.fields_db, p.relief_db, p.points) for p in profiles],
                     np.float32)  # fmt: skip
    amounts = [box_mean(table[labels, i], 5) for i in range(table.shape[1])]
    return _simulate(optical, bands, GroundProfile(*amounts), rng, looks)


def _simulate(
    optical: Array,
    bands: Sequence[str],
    profile: GroundProfile,
    rng: np.random.Generator,
    looks: float,
) -> npt.NDArray[np.float32]:
    structure = read_structure(optical, bands)
    shares = _cover_shares(structure, profile, rng)
    sigma0 = _mixture(shares, structure, profile, rng)
    sigma0 += _bright_points(shares[4], structure.contrast, profile, rng)
    sigma0 += np.float32(10 ** (NOISE_DB / 10))
    sigma0 *= speckle(sigma0.shape, rng, looks)
    return np.asarray(10.0 * np.log10(np.maximum(sigma0, 1e-5)), np.float32)


@dataclass(frozen=True)
class Structure:
    """What the clear optical patch shows, each ``(H, W)`` float32.

    Attributes:
        water: Share of open water, in [0, 1].
        ndvi: Vegetation index, in [-1, 1].
        brightness: Mean visible reflectance.
        contrast: Local contrast of brightness, in [0, 1].
    """

    water: Floats
    ndvi: Floats
    brightness: Floats
    contrast: Floats


def read_structure(optical: Array, bands: Sequence[str]) -> Structure:
    """Measure water, vegetation, brightness and contrast of a clear patch."""
    scale = np.float32(1.0 / UNITS_PER_REFLECTANCE.get(optical.dtype.str[1:], 1.0))
    place = {band: i for i, band in enumerate(bands)}

    def band(name: str) -> Floats:
        return np.asarray(optical[place[name]] * scale, np.float32)

    if {"B03", "B04", "B08"} <= place.keys():
        green, red, nir = band("B03"), band("B04"), band("B08")
        brightness = 0.5 * (green + red)
        ndvi = (nir - red) / (nir + red + np.float32(1e-4))
        index = (green - nir) / (green + nir + np.float32(1e-4))
        water = _step(index, 0.05, 0.06) * _step(0.16 - nir, 0.0, 0.02)
    else:
        brightness = np.asarray(optical.mean(axis=0) * scale, np.float32)
        ndvi = np.full_like(brightness, 0.4)
        water = np.zeros_like(brightness)
    return Structure(water, ndvi, brightness, _contrast(brightness))


def _step(value: Floats, middle: float, width: float) -> Floats:
    share = (value - np.float32(middle - width)) / np.float32(2 * width)
    return np.asarray(np.clip(share, 0.0, 1.0), np.float32)


def _contrast(brightness: Floats) -> Floats:
    """Local standard deviation of log brightness, mapped so that fields are 0 and roofs 1."""
    logarithm = np.log(np.maximum(brightness, np.float32(0.01)))
    mean, squares = box_mean(np.stack([logarithm, logarithm**2]), 2)
    return _step(np.sqrt(np.maximum(squares - mean**2, 0.0)), 0.11, 0.08)


def _cover_shares(
    structure: Structure, profile: GroundProfile, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Shares ``(5, H, W)`` of the covers in `COVERS` order, summing to 1."""
    tree_share = np.clip(profile.trees + np.float32(rng.normal(0, 0.12)), 0, 1)
    built_share = profile.built * np.float32(rng.uniform(0.55, 1.25))
    land = 1.0 - structure.water
    green = _step(structure.ndvi, 0.38, 0.15)
    built = land * np.clip(built_share * (0.25 + structure.contrast) * (1.15 - green), 0, 1)
    rest = land - built
    dark = _step(0.115 - structure.brightness, 0.02, 0.03)
    trees = rest * np.clip(tree_share * (0.6 * green + 0.7 * dark), 0, 1)
    low = (rest - trees) * green
    return np.stack([structure.water, trees, low, rest - trees - low, built])


def _mixture(
    shares: npt.NDArray[np.float32],
    structure: Structure,
    profile: GroundProfile,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Mean sigma0 ``(2, H, W)``, linear, before bright points and speckle."""
    common = rng.normal(0, 0.8) + rng.normal(0, 1, 5) * LEVEL_STD_DB
    ratio = rng.normal(0, 0.6) + rng.normal(0, 0.5, 5)
    levels = np.stack([VV_DB + common, VH_DB + common + ratio])
    linear = (10 ** (levels / 10)).astype(np.float32)
    sigma0 = np.tensordot(linear, shares, axes=1)
    change = profile.fields_db * _by_color(structure, rng)
    height, width = structure.ndvi.shape
    relief = power_law_field(height, width + width % 2, 3.0, rng)[:, :width]
    change = (1 - shares[0]) * change + profile.relief_db * relief
    return np.asarray(sigma0 * 10 ** (change / 10), np.float32)


def _by_color(structure: Structure, rng: np.random.Generator) -> Floats:
    """A random smooth function of color, so that fields of one color share one offset."""
    ndvi, brightness = box_mean(np.stack([structure.ndvi, structure.brightness]), 1)
    tone = np.log(np.maximum(brightness, np.float32(0.01)))
    waves = rng.normal(0, (6.0, 4.0), (3, 2)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 3).astype(np.float32)
    total = sum(np.sin(a * ndvi + b * tone + p) for (a, b), p in zip(waves, phases, strict=True))
    return np.asarray(total * np.float32(0.8), np.float32)


def _bright_points(
    built: Floats, contrast: Floats, profile: GroundProfile, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Corner reflections of buildings, linear ``(2, H, W)``, spread over one pixel around."""
    height, width = built.shape
    points = np.zeros((2, height, width), np.float32)
    rate = profile.points * np.float32(rng.uniform(0.5, 1.5) / 1000)
    rows, columns = np.nonzero(rng.random((height, width), np.float32) < rate)
    count = len(rows)
    strength = 10 ** (rng.normal(2.0, 4.0, count) / 10) * (0.1 + built + contrast)[rows, columns]
    cross = 10 ** (rng.normal(-8.0, 1.5, count) / 10)
    points[:, rows, columns] = strength, strength * cross
    spread = points.copy()
    spread[:, 1:] += 0.3 * points[:, :-1]
    spread[:, :-1] += 0.3 * points[:, 1:]
    spread[:, :, 1:] += 0.3 * points[:, :, :-1]
    spread[:, :, :-1] += 0.3 * points[:, :, 1:]
    return spread
