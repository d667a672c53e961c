"""A simulated landscape as Sentinel-2 and Sentinel-1 would see it, for demos without data.

Regions of ten scene classes are drawn with the structures seen at 10 m (parcels, rows, streets,
roofs, canopy, a river, a motorway, the sea) and painted with measured class spectra. SAR and
clouds come from the same simulators that training uses. Nothing in it is a real place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.contracts.types import Floats
from esccs_edge.errors import InputError

from .clouds import draw_sky, simulate_clouds
from .land import coordinates, local_axes, path_distance, regions, winding
from .paint import PAINTERS, Canvas, paint_river, paint_road
from .sar import simulate_sar_scene
from .spectra import SPECTRA

CLASSES = tuple(SPECTRA)
MIN_SIZE = 128
REGION_PIXELS = 200.0
#: Half the width in pixels of the strips labeled River and Highway.
RIVER_REACH, ROAD_REACH = 34.0, 24.0
#: Region classes, dealt out in turn so that each is there as often as it can be.
_LAND = ("AnnualCrop", "Forest", "Residential", "PermanentCrop", "Pasture", "Industrial",
         "HerbaceousVegetation", "AnnualCrop", "Forest", "Pasture", "Residential")  # fmt: skip


@dataclass(frozen=True)
class SimulatedScene:
    """One simulated scene of ``H x W`` pixels of 10 m.

    Attributes:
        optical: ``(13, H, W)`` uint16 L1C digital numbers with clouds and shadows.
        clear: The same before clouds.
        sar: ``(2, H, W)`` float32 sigma0 in dB, VV and VH.
        labels: ``(H, W)`` uint8, positions in ``classes``.
        cloud_mask: ``(H, W)`` bool, True under cloud.
        classes: Class names.
    """

    optical: npt.NDArray[np.uint16]
    clear: npt.NDArray[np.uint16]
    sar: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    cloud_mask: npt.NDArray[np.bool_]
    classes: tuple[str, ...]


def simulate_scene(seed: int, size: int = 1024, cover: float = 0.35) -> SimulatedScene:
    """Simulate one scene.

    Args:
        seed: Same seed, same scene.
        size: Height and width in pixels, at least `MIN_SIZE`.
        cover: Share of cloudy pixels.

    Raises:
        InputError: ``size`` is too small or ``cover`` outside [0, 1].
    """
    if size < MIN_SIZE:
        raise InputError(f"scene size is {size} pixels, expected at least {MIN_SIZE}")
    streams = np.random.SeedSequence(seed).spawn(3)
    ground, radar, weather = (np.random.default_rng(stream) for stream in streams)
    labels, clear = _landscape(size, ground)
    sar = simulate_sar_scene(clear, SENTINEL2_L1C_BANDS, labels, CLASSES, radar)
    # A whole scene shows many clouds with firm edges rather than the rim of one.
    sky = replace(draw_sky(weather, size), peak_opacity=1.0, softness=0.22, slope=3.1, stretch=1.3,
                  shadow=0.45, shift=(-14, -18))  # fmt: skip
    optical, _, mask = simulate_clouds(clear, SENTINEL2_L1C_BANDS, cover, weather, sky=sky)
    return SimulatedScene(optical, clear, sar, labels, mask, CLASSES)


def _landscape(
    size: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Labels ``(H, W)`` and clear digital numbers ``(13, H, W)``."""
    rows, columns = coordinates(size, rng, 0.03 * size)
    cells, centers = regions(rows, columns, min(REGION_PIXELS, size / 3), rng)
    axes = local_axes(cells, rng)
    sea = _is_sea(rows, columns)
    labels = _region_classes(len(centers), rng)[cells]
    labels[sea] = CLASSES.index("SeaLake")
    canvas = Canvas(size)
    for name, paint in PAINTERS.items():
        paint(canvas, axes, labels == CLASSES.index(name), rng)
    river, road = _lines(size, rng)
    paint_river(canvas, river, ~sea, rng)
    paint_road(canvas, road, ~sea, axes, rng)
    labels[(np.abs(road) < ROAD_REACH) & ~sea] = CLASSES.index("Highway")
    labels[(np.abs(river) < RIVER_REACH) & ~sea] = CLASSES.index("River")
    return labels.astype(np.uint8), canvas.render(rng)


def _is_sea(rows: Floats, columns: Floats) -> npt.NDArray[np.bool_]:
    """The sea fills the lower left corner, about an eighth of the scene."""
    size = len(rows)
    return np.asarray((size - rows) + columns < 0.52 * size)


def _region_classes(count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A class for each region: all land classes in turn, in a random order."""
    turns = -(-count // len(_LAND))
    dealt = np.concatenate([rng.permutation(_LAND) for _ in range(turns)])[:count]
    return np.array([CLASSES.index(name) for name in dealt])


def _lines(size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Signed distances to the river, which runs into the sea, and to the motorway across it."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    river = winding(3 * size, 0.055 * size, 0.5 * size, rng)
    road = winding(3 * size, 0.03 * size, 1.3 * size, rng)
    falling = -np.pi / 4 + rng.uniform(-0.15, 0.15)
    rising = np.pi / 4 + rng.uniform(-0.2, 0.2)
    return (
        path_distance(rows, columns, rng.uniform(0.44, 0.56), falling, river),
        path_distance(rows, columns, rng.uniform(0.55, 0.65), rising, road),
    )
