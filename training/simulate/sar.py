"""Simulated Sentinel-1 backscatter (sigma0, VV and VH, dB) for optical patches without SAR.

Simulated, never measured. Each pixel is a mixture of five ground covers (water, trees, low
vegetation, bare ground, built) whose shares are read from the pixels of the clear optical patch.
Levels, their spread from place to place, texture and speckle are those measured on real SAR per
cover (`backscatter.MEASURED`): a patch draws its own level per cover (wind, moisture, incidence
angle), its own strength of texture (relief, fields, roofs), bright points where it is built, and
correlated speckle last. Only the clear optical patch is read, so the result cannot depend on
simulated clouds.

A class name is an extra that makes patches of a class more alike. What was simulated with it may
teach; it must never judge, because it knows the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Array, Floats

from .backscatter import MEASURED, Backscatter
from .covers import Structure, cover_shares, read_structure, step
from .noise import box_mean, power_law_field
from .speckle import speckled

#: The least sigma0 that is handed out, linear (-35 dB).
FLOOR = np.float32(10**-3.5)
#: Power-law exponents of texture: hills and fields; roofs, hedges, crowns of trees; VV - VH.
RELIEF_SLOPE, ROUGH_SLOPE, RATIO_SLOPE = 3.0, 1.3, 2.0
#: Share of the variance of such a field of 64 x 64 pixels that an average over 5 x 5 keeps.
RELIEF_KEPT, ROUGH_KEPT, RATIO_KEPT = np.float32(0.83), np.float32(0.24), np.float32(0.50)
#: Slopes that face the radar are brighter than those behind are dark (foreshortening).
SKEW = np.float32(0.05)
#: One number for a patch, or a field ``(H, W)`` where classes differ from pixel to pixel.
Amount = float | Floats


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
    rng: np.random.Generator,
    class_name: str = "",
    ground: Backscatter = MEASURED,
) -> npt.NDArray[np.float32]:
    """Simulate the SAR patch of a clear optical patch.

    Args:
        optical: ``(C, H, W)`` clear digital numbers or float reflectance.
        bands: Channel names; without B03, B04 and B08 only brightness and contrast are used.
        rng: Source of randomness.
        class_name: Scene class, for patches that teach. Without it, or with one that is not in
            `PROFILES`, the pixels alone decide.
        ground: Statistics of real backscatter.

    Returns:
        ``(2, H, W)`` sigma0 in dB, VV then VH.
    """
    return _simulate(optical, bands, PROFILES.get(class_name), rng, ground)


def simulate_sar_scene(
    optical: Array,
    bands: Sequence[str],
    labels: npt.NDArray[np.integer[Any]],
    classes: Sequence[str],
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Simulate one acquisition over a scene of several classes.

    Like `simulate_sar` with classes: ``labels`` ``(H, W)`` are positions in ``classes``, each a
    name in `PROFILES`. Wind, moisture and angles are drawn once for the whole scene.
    """
    profiles = [PROFILES[name] for name in classes]
    table = np.array([(p.trees, p.built, p.fields_db, p.relief_db, p.points) for p in profiles],
                     np.float32)  # fmt: skip
    amounts = [box_mean(table[labels, i], 5) for i in range(table.shape[1])]
    return _simulate(optical, bands, GroundProfile(*amounts), rng, MEASURED)


def _simulate(
    optical: Array,
    bands: Sequence[str],
    profile: GroundProfile | None,
    rng: np.random.Generator,
    ground: Backscatter,
) -> npt.NDArray[np.float32]:
    structure = read_structure(optical, bands)
    shares = _shares(structure, profile, rng)
    sigma0 = _mixture(shares, structure, profile, rng, ground)
    points = 12.0 * shares[4] if profile is None else profile.points
    sigma0 += _bright_points(points, shares[4], structure.contrast, rng)
    # The processor takes the mean noise off again; what stays is its speckle.
    noise = np.float32(10 ** (rng.normal(ground.noise, ground.noise_std) / 10))
    sigma0 = speckled(sigma0 + noise, rng, ground.looks, ground.blur) - noise
    return np.asarray(10.0 * np.log10(np.maximum(sigma0, FLOOR)), np.float32)


def _shares(
    structure: Structure, profile: GroundProfile | None, rng: np.random.Generator
) -> Floats:
    """Shares of the covers, from the pixels alone or with what is typical of the class."""
    green = step(structure.ndvi, 0.38, 0.15)
    if profile is None:
        return cover_shares(structure, green * structure.dark, structure.town)
    trees = np.clip(profile.trees + np.float32(rng.normal(0, 0.12)), 0, 1)
    built = profile.built * np.float32(rng.uniform(0.55, 1.25))
    return cover_shares(
        structure,
        trees * (0.6 * green + 0.7 * structure.dark),
        built * (0.25 + structure.contrast) * (1.15 - green),
    )


def _mixture(
    shares: Floats,
    structure: Structure,
    profile: GroundProfile | None,
    rng: np.random.Generator,
    ground: Backscatter,
) -> npt.NDArray[np.float32]:
    """Mean sigma0 ``(2, H, W)``, linear, before bright points, noise floor and speckle."""
    # Moisture and incidence angle move all covers of a place alike, half of the variance. Two
    # standard deviations: no darker water and no brighter town was met.
    drawn = (rng.normal(0, 1, (2, 1)) + rng.normal(0, 1, (2, 5))) * 0.5**0.5
    drawn = np.clip(drawn, -2, 2)
    vv = np.array(ground.vv) + drawn[0] * ground.level_std
    ratio = np.array(ground.vv) - ground.vh + drawn[1] * ground.ratio_std
    linear = 10 ** (np.stack([vv, vv - ratio]) / 10)
    sigma0 = np.tensordot(linear.astype(np.float32), shares, axes=1)
    change, cross = _texture(shares, rng, ground)
    if profile is not None:
        change += (1 - shares[0]) * profile.fields_db * _by_color(structure, rng)
    sigma0[0] *= 10 ** ((change + cross) / 10)
    sigma0[1] *= 10 ** ((change - cross) / 10)
    return sigma0


def _texture(
    shares: Floats, rng: np.random.Generator, ground: Backscatter
) -> tuple[Floats, Floats]:
    """Change in dB that both channels share, and half of the change of their ratio, ``(H, W)``."""
    height, width = shares.shape[1:]
    smooth, rough, cross = (
        power_law_field(height, width + width % 2, slope, rng)[:, :width]
        for slope in (RELIEF_SLOPE, ROUGH_SLOPE, RATIO_SLOPE)
    )
    strength = np.array(ground.texture) * np.exp(rng.normal() * np.array(ground.texture_spread))
    amounts = np.stack([strength, 0.5 * np.array(ground.ratio_texture)]).astype(np.float32)
    common, ratio = np.tensordot(amounts, shares, axes=1)
    mix = np.float32(rng.uniform(0.5, 1.0))
    kept = mix * RELIEF_KEPT + (1 - mix) * ROUGH_KEPT
    field = (np.sqrt(mix) * smooth + np.sqrt(1 - mix) * rough) / np.sqrt(kept)
    field += SKEW * (field**2 - 1)
    return common * field, ratio * cross / np.sqrt(RATIO_KEPT)


def _by_color(structure: Structure, rng: np.random.Generator) -> Floats:
    """A random smooth function of color, so that fields of one color share one offset."""
    ndvi, tone = structure.ndvi, np.log(np.maximum(structure.brightness, np.float32(0.01)))
    waves = rng.normal(0, (6.0, 4.0), (3, 2)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 3).astype(np.float32)
    total = sum(np.sin(a * ndvi + b * tone + p) for (a, b), p in zip(waves, phases, strict=True))
    return np.asarray(total * np.float32(0.8), np.float32)


def _bright_points(
    per_thousand: Amount, built: Floats, contrast: Floats, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Corner reflections of buildings, linear ``(2, H, W)``."""
    height, width = built.shape
    points = np.zeros((2, height, width), np.float32)
    rate = per_thousand * np.float32(rng.uniform(0.5, 1.5) / 1000)
    rows, columns = np.nonzero(rng.random((height, width), np.float32) < rate)
    count = len(rows)
    strength = 10 ** (rng.normal(2.0, 4.0, count) / 10) * (0.1 + built + contrast)[rows, columns]
    cross = 10 ** (rng.normal(-8.0, 1.5, count) / 10)
    points[:, rows, columns] = strength, strength * cross
    return points
