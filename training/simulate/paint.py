"""Paints each scene class of a simulated landscape: which spectrum stands in which pixel.

A canvas holds one number per pixel, its row in a growing table of spectra, and how much fine
texture the pixel has. Structure sizes follow what the classes show at 10 m in EuroSAT-MS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.contracts.types import Floats, Mask

from .land import Axes, Ids, chosen, parcels
from .noise import box_mean, power_law_field
from .spectra import SHARES, SPECTRA

#: Radius of the box that stands for the coarser 20 m and 60 m bands on the 10 m grid.
BLUR = {"B05": 1, "B06": 1, "B07": 1, "B8A": 1, "B11": 1, "B12": 1, "B01": 3, "B09": 3, "B10": 3}
#: Share of light that reaches each neighbor in a row of three.
OPTICS_SPREAD = 0.18
RAMP_STEPS = 48


class Canvas:
    """A landscape being painted; later paint covers earlier paint.

    Args:
        size: Height and width in pixels.
    """

    def __init__(self, size: int) -> None:
        self._tables: list[Floats] = []
        self._rows = 0
        self._place = np.zeros((size, size), np.int32)
        self._texture = np.zeros((size, size), np.float32)

    def fill(self, mask: Mask, spectra: Floats, place: Ids | int, texture: float) -> None:
        """Give the masked pixels rows ``place`` of ``spectra`` and a share of fine texture."""
        where = place[mask] if isinstance(place, np.ndarray) else place
        self._place[mask] = where + self._rows
        self._texture[mask] = texture
        self._tables.append(spectra)
        self._rows += len(spectra)

    def render(self, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
        """Return digital numbers ``(13, H, W)`` with texture and each band's resolution."""
        table = np.concatenate(self._tables)
        size = len(self._place)
        gain = 1 + 0.035 * _field(size, 3.0, rng)
        grain = rng.standard_normal((size, size), np.float32)
        image = np.empty((table.shape[1], size, size), np.uint16)
        for band, name in enumerate(SENTINEL2_L1C_BANDS):
            own = rng.standard_normal((size, size), np.float32)
            pixels = table[:, band][self._place] * gain
            texture = self._texture * np.float32(1.6 if name == "B08" else 1.0)
            pixels *= 1 + texture * (np.float32(0.8) * grain + np.float32(0.5) * own)
            pixels = _softened(pixels)
            if name in BLUR:
                pixels = box_mean(pixels, BLUR[name])
            image[band] = np.clip(pixels, 1, 65535)
        return image


def _softened(pixels: Floats) -> Floats:
    """Spread each pixel a little over its neighbors, as the optics of the instrument do."""
    side = np.float32(OPTICS_SPREAD)
    for axis in (0, 1):
        moved = np.roll(pixels, 1, axis) + np.roll(pixels, -1, axis)
        pixels = (1 - 2 * side) * pixels + side * moved
    return pixels


def mixtures(
    name: str, count: int, rng: np.random.Generator, *, spread: float = 0.07, blend: float = 0.35
) -> Floats:
    """Draw spectra between the clusters of a class, by their shares, at varying brightness."""
    rows = SPECTRA[name]
    first, second = rng.choice(len(rows), (2, count), p=np.array(SHARES[name]) / sum(SHARES[name]))
    part = rng.uniform(0, blend, (count, 1))
    level = np.exp(rng.normal(0, spread, (count, 1)))
    return np.asarray((rows[first] * (1 - part) + rows[second] * part) * level, np.float32)


def _ramp(name: str, order: tuple[int, ...]) -> Floats:
    """Spectra blended step by step through the given clusters of a class."""
    rows = SPECTRA[name][list(order)]
    place = np.linspace(0, len(order) - 1, RAMP_STEPS)
    lower = np.minimum(place.astype(int), len(order) - 2)
    rest = (place - lower)[:, None]
    return np.asarray(rows[lower] * (1 - rest) + rows[lower + 1] * rest, np.float32)


def _steps(value: Floats) -> Ids:
    return np.asarray(np.clip(value * RAMP_STEPS, 0, RAMP_STEPS - 1), np.int64)


def _field(size: int, slope: float, rng: np.random.Generator, **shape: Any) -> Floats:
    return power_law_field(size, size + size % 2, slope, rng, **shape)[:, :size]


def _annual_crop(canvas: Canvas, axes: Axes, mask: Mask, rng: np.random.Generator) -> None:
    fields = parcels(axes, 54, 95, rng)
    colors = mixtures("AnnualCrop", 64, rng, blend=0.1)
    canvas.fill(mask, colors, chosen(fields.ids, 64, rng), 0.008)


def _permanent_crop(canvas: Canvas, axes: Axes, mask: Mask, rng: np.random.Generator) -> None:
    plots = parcels(axes, 20, 38, rng)
    soil = mixtures("PermanentCrop", 48, rng)
    rows = (np.floor(axes.u / np.float32(2.5)) % 2).astype(np.int64)
    canvas.fill(mask, np.concatenate([soil, soil * np.float32(0.86)]),
                chosen(plots.ids, 48, rng) + 48 * rows, 0.035)  # fmt: skip
    canvas.fill(mask & (plots.border < 1.2), SPECTRA["PermanentCrop"], 5, 0.05)
    groves = mask & (_field(len(mask), 2.2, rng) > 2.0)
    canvas.fill(groves, SPECTRA["PermanentCrop"], 0, 0.06)


def _pasture(canvas: Canvas, axes: Axes, mask: Mask, rng: np.random.Generator) -> None:
    meadows = parcels(axes, 34, 44, rng)
    grass = SPECTRA["Pasture"][[0, 0, 0, 1, 3, 3, 5]]
    canvas.fill(mask, grass * np.exp(rng.normal(0, 0.05, (7, 1))).astype(np.float32),
                chosen(meadows.ids, 7, rng), 0.015)  # fmt: skip
    canvas.fill(mask & (meadows.border < 1.1), SPECTRA["Forest"], 3, 0.08)


def _forest(canvas: Canvas, axes: Axes, mask: Mask, rng: np.random.Generator) -> None:
    size = len(mask)
    canopy = 0.5 + 0.17 * _field(size, 3.2, rng) + 0.09 * _field(size, 1.2, rng)
    canvas.fill(mask, _ramp("Forest", (0, 1, 3, 2)), _steps(canopy), 0.07)


def _herbaceous(canvas: Canvas, axes: Axes, mask: Mask, rng: np.random.Generator) -> None:
    size = len(mask)
    scrub = 0.5 + 0.24 * _field(size, 2.6, rng) + 0.07 * _field(size, 1.0, rng)
    canvas.fill(mask, _ramp("HerbaceousVegetation", (2, 3, 4, 5)), _steps(scrub), 0.08)


def _sea(canvas: Canvas, axes: Axes, mask: Mask, rng: np.random.Generator) -> None:
    depth = 0.4 + 0.22 * _field(len(mask), 4.0, rng)
    canvas.fill(mask, _ramp("SeaLake", (1, 2, 3)), _steps(depth), 0.02)


def _residential(canvas: Canvas, axes: Axes, mask: Mask, rng: np.random.Generator) -> None:
    town = SPECTRA["Residential"]
    houses = parcels(axes, 3.4, 4.2, rng)
    red = town[4] * np.where(np.arange(13) == 3, 1.22, np.where(np.arange(13) < 3, 0.9, 1.0))
    roofs = np.stack([red, red * 0.9, town[4], town[4] * 1.1, town[5], town[5] * 1.3,
                      town[0], town[2], town[2], town[0] * 0.9, town[1], town[3]])  # fmt: skip
    dense = np.array([4, 3, 2.5, 2, 2, 0.7, 0.6, 1.2, 1.0, 0.5, 1.5, 1.5])
    suburb = np.array([1.5, 1, 1.2, 1, 0.6, 0.4, 4, 3.5, 1.5, 3.5, 1.2, 1.0])
    kinds = [chosen(houses.ids, 12, rng, part / part.sum()) for part in (dense, suburb)]
    is_suburb = _field(len(mask), 3.4, rng) > -0.1
    canvas.fill(mask, roofs.astype(np.float32), np.where(is_suburb, kinds[1], kinds[0]), 0.07)
    canvas.fill(mask & (houses.border < 0.8), town, 2, 0.08)
    blocks = parcels(axes, 13, 27, rng)
    canvas.fill(mask & (blocks.border < 1.4), town * np.float32(1.06), 3, 0.04)
    parks = chosen(blocks.ids, 14, rng) == 0
    canvas.fill(mask & parks & (blocks.border > 2), town, 0, 0.06)


def _industrial(canvas: Canvas, axes: Axes, mask: Mask, rng: np.random.Generator) -> None:
    works = SPECTRA["Industrial"]
    canvas.fill(mask, works, 3, 0.06)
    lots, sheds = parcels(axes, 23, 30, rng), parcels(axes, 8, 11, rng)
    white = works[5] * np.linspace(0.9, 1.6, 4)[:, None]
    blue = works[3] * np.where(np.arange(13) == 1, 1.5, np.where(np.arange(13) == 3, 0.8, 1.0))
    roofs = np.concatenate([white, works[[4, 4, 4, 2, 2, 2, 3, 3]], blue[None]]).astype(np.float32)
    canvas.fill(mask & (sheds.border > 2.2), roofs, chosen(sheds.ids, len(roofs), rng), 0.05)
    halls = chosen(lots.ids, 2, rng) == 0
    yard = mask & halls
    canvas.fill(yard, works, 3, 0.06)
    canvas.fill(yard & (lots.border > 5), roofs, chosen(lots.ids, len(roofs), rng), 0.03)
    green = chosen(lots.ids, 7, rng) == 0
    canvas.fill(mask & green & (lots.border > 2), works, 1, 0.07)
    canvas.fill(mask & (lots.border < 2), works * np.float32(0.95), 3, 0.03)


Painter = Callable[[Canvas, Axes, Mask, np.random.Generator], None]
#: How the ground of each region class is painted; rivers and motorways are laid over it.
PAINTERS: dict[str, Painter] = {
    "AnnualCrop": _annual_crop,
    "Forest": _forest,
    "HerbaceousVegetation": _herbaceous,
    "Industrial": _industrial,
    "Pasture": _pasture,
    "PermanentCrop": _permanent_crop,
    "Residential": _residential,
    "SeaLake": _sea,
}


def paint_river(canvas: Canvas, distance: Floats, land: Mask, rng: np.random.Generator) -> None:
    """Lay a river with wooded banks; ``distance`` is the signed distance to its middle."""
    half_width = 10 + 2.5 * _field(len(land), 4.0, rng)
    reach = np.abs(distance)
    canvas.fill(land & (reach < half_width + 3.5), SPECTRA["Forest"], 1, 0.07)
    flow = 0.35 + 0.15 * _field(len(land), 3.5, rng)
    canvas.fill(land & (reach < half_width), _ramp("River", (0, 2)), _steps(0.5 * flow), 0.015)


def paint_road(
    canvas: Canvas, distance: Floats, land: Mask, axes: Axes, rng: np.random.Generator
) -> None:
    """Lay a motorway: four lanes, a median, verges, and the small plots that roads leave over."""
    reach = np.abs(distance)
    plots = parcels(axes, 30, 45, rng)
    canvas.fill(
        land & (reach < 20), mixtures("Highway", 32, rng), chosen(plots.ids, 32, rng), 0.015
    )
    canvas.fill(land & (np.abs(distance - 13) < 0.8), SPECTRA["Highway"], 4, 0.03)
    canvas.fill(land & (reach < 8), SPECTRA["Highway"], 1, 0.04)
    canvas.fill(land & (reach < 3.4), SPECTRA["Highway"] * np.float32(1.15), 4, 0.03)
    canvas.fill(land & (reach < 0.7), SPECTRA["Highway"], 3, 0.03)
