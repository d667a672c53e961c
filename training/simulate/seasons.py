"""Simulated seasons of farmland: fields, crops that green and ripen, clouds by month, and SAR.

Everything is drawn, and images and SAR are drawn from the crop of each field. So this teaches,
tests and demonstrates; a score on it says whether a network learns, not how good it is on the
ground. Spectra between which a field moves are those of `spectra` (bare and green annual crops);
when crops green and ripen, and what SAR sees of it, are rough figures of ours for a temperate
climate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.calendar import Calendar, months
from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.contracts.types import Floats, Mask

from .backscatter import MEASURED
from .missing_dates import CLOUDINESS
from .noise import power_law_field
from .speckle import speckled
from .spectra import SPECTRA

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
#: March to October, one image a month.
CALENDAR: Calendar = months(3, 8)
#: Days of the year in the middle of these months.
DAYS = tuple(75 + 30.5 * i for i in range(8))
#: Pixels of an ordinary field along one side.
FIELD_PX = 8
#: How bare ground and full green look: the brightest and the greenest spectrum of annual crops.
_PLACES = [SENTINEL2_L1C_BANDS.index(band) for band in BANDS]
BARE, GREEN = SPECTRA["AnnualCrop"][5][_PLACES], SPECTRA["AnnualCrop"][0][_PLACES]


@dataclass(frozen=True)
class Crop:
    """When a crop is green, and what else tells it.

    Attributes:
        name: Class name.
        up: Day of the year on which it is half green.
        down: Day on which it is half ripe.
        greenest: Share of the ground that it covers at its best.
        flower: Day on which it flowers in yellow; None: not so that it shows.
        rough: dB that full green adds to VV and to VH.
    """

    name: str
    up: float
    down: float
    greenest: float
    flower: float | None
    rough: tuple[float, float]


CROPS = (
    Crop("grassland", 70, 300, 0.65, None, (0.5, 1.0)),
    Crop("winter cereals", 80, 185, 0.95, None, (-3.0, 0.0)),
    Crop("rapeseed", 75, 188, 0.95, 125, (0.5, 4.0)),
    Crop("maize", 170, 268, 0.9, None, (2.0, 4.0)),
    Crop("sunflower", 155, 238, 0.9, 200, (1.5, 2.5)),
)
CLASSES = tuple(crop.name for crop in CROPS)


@dataclass(frozen=True)
class Season:
    """One simulated place.

    Attributes:
        optical: ``(10, T, H, W)`` uint16, reflectance x 10000; 0 under clouds.
        sar: ``(2, T, H, W)`` float32, VV and VH in dB.
        labels: ``(H, W)`` positions in `CLASSES`.
        cloudy: ``(T, H, W)``.
    """

    optical: npt.NDArray[np.uint16]
    sar: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    cloudy: Mask


def simulate_season(seed: int, size: int) -> Season:
    """Draw a place of ``size`` x ``size`` pixels of 10 m."""
    rng = np.random.default_rng((seed, 20))
    fields = _fields(size, rng)
    crops = rng.integers(len(CROPS), size=fields.max() + 1)
    green, yellow, rough = _growth(fields, crops, rng)
    return Season(
        _optical(fields, green, yellow, cloudy := _clouds(size, rng), rng),
        _sar(fields, green, rough, rng),
        crops[fields],
        cloudy,
    )


def greenness(crop: Crop, day: float | Floats) -> Floats:
    """Return the share of the ground that a crop covers on a day: up and down by logistic curves.

    The double logistic is the usual form of such curves (Beck et al., 2006).
    """
    rise = 1 / (1 + np.exp(-(np.asarray(day) - crop.up) / 10))
    fall = 1 / (1 + np.exp((np.asarray(day) - crop.down) / 8))
    return np.asarray(crop.greenest * rise * fall, np.float32)


def _fields(size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the number of the field of each pixel: the nearest of scattered middles."""
    count = max(round((size / FIELD_PX) ** 2), 2)
    middles = rng.uniform(0, size, (count, 2))
    turn = rng.uniform(0, np.pi)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1) + 0.5
    away = np.abs((pixels[:, :, None] - middles) @ axes.T)
    return np.asarray((away * (1.0, 1.8)).max(axis=-1).argmin(axis=-1), np.int64)


def _growth(
    fields: npt.NDArray[np.int64], crops: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Return green and yellow shares ``(T, H, W)``, and roughness ``(2, H, W)`` in dB.

    Each field is sown on another day and grows more or less well; patches in it differ too.
    """
    late = rng.normal(0, 8, len(crops))
    well = np.clip(rng.normal(1, 0.1, len(crops)), 0.6, 1.2)
    height, width = fields.shape
    patchy = 1 + 0.08 * power_law_field(height, width, 2.0, rng)
    green, yellow = np.zeros((2, len(DAYS), *fields.shape), np.float32)
    rough = np.zeros((2, *fields.shape), np.float32)
    for number, crop in enumerate(crops):
        inside = fields == number
        kind = CROPS[crop]
        rough[:, inside] = np.array(kind.rough, np.float32)[:, None]
        for i, day in enumerate(DAYS):
            green[i][inside] = greenness(kind, day - late[number]) * well[number]
            if kind.flower is not None:
                apart = (day - late[number] - kind.flower) / 15
                yellow[i][inside] = np.exp(-(apart**2))
    return np.clip(green * patchy, 0, 1), yellow, rough


def _clouds(size: int, rng: np.random.Generator) -> Mask:
    """Return where clouds are; some months have more of them, and some images have no view."""
    cloudy = np.zeros((len(DAYS), size, size), bool)
    for i, month in enumerate(CALENDAR.months):
        cover = rng.beta(2 * CLOUDINESS[month - 1], 2 * (1 - CLOUDINESS[month - 1]))
        field = power_law_field(size, size, 2.8, rng)
        cloudy[i] = field > np.quantile(field, 1 - cover) if cover < 0.95 else True
    return cloudy


def _optical(
    fields: npt.NDArray[np.int64], green: Floats, yellow: Floats, cloudy: Mask,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint16]:  # fmt: skip
    soil = np.clip(rng.normal(1, 0.15, fields.max() + 1), 0.6, 1.4)[fields]
    bare, full = (spectrum[:, None, None, None] for spectrum in (BARE, GREEN))
    pixels = bare * soil * (1 - green) + full * green
    flowering = np.isin(BANDS, ("B03", "B04", "B05"))[:, None, None, None]
    pixels = pixels * (1 + 0.7 * flowering * yellow * green)
    light = rng.normal(1, 0.04, (1, len(DAYS), 1, 1))  # what correction of the air leaves
    pixels = pixels * light * rng.normal(1, 0.03, pixels.shape)
    return np.where(cloudy, 0, np.clip(np.rint(pixels), 1, 16000)).astype(np.uint16)


def _sar(
    fields: npt.NDArray[np.int64], green: Floats, rough: Floats, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    bare = np.array([-11.5, -19.0], np.float32)[:, None, None, None]
    own = rng.normal(0, 0.8, (2, fields.max() + 1))[:, fields][:, None]
    wet = rng.normal(0, 0.7, (1, len(DAYS), 1, 1))  # rain before an image
    level = bare + own + wet * (1 - 0.5 * green) + rough[:, None] * green
    intensity = speckled(np.power(10, level / 10).astype(np.float32), rng,
                         MEASURED.looks, MEASURED.blur)  # fmt: skip
    return np.asarray(10 * np.log10(np.maximum(intensity, 1e-5)), np.float32)
