"""One color per class, the same in every map, legend and picture. Standard library only."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

RGB = tuple[int, int, int]

#: Usual colors of the class names that land-cover data sets share.
_FAMILIAR: dict[str, RGB] = {
    "annualcrop": (232, 196, 90),
    "forest": (30, 110, 55),
    "herbaceousvegetation": (150, 195, 85),
    "highway": (110, 110, 118),
    "industrial": (150, 75, 160),
    "pasture": (195, 222, 140),
    "permanentcrop": (205, 130, 60),
    "residential": (205, 65, 60),
    "river": (85, 165, 220),
    "sealake": (30, 75, 150),
    "water": (45, 110, 190),
    "flooded": (45, 110, 190),
    "dry": (214, 190, 150),
    "cropland": (232, 196, 90),
    "grassland": (170, 205, 95),
    "shrubland": (165, 150, 70),
    "savanna": (205, 185, 105),
    "wetland": (95, 175, 160),
    "urban": (205, 65, 60),
    "barren": (190, 175, 160),
    "snow": (235, 240, 248),
}
_GOLDEN_RATIO = 0.618034


def class_colors(classes: Sequence[str]) -> list[RGB]:
    """Return one color per class: the familiar one, else one of evenly spread hues."""
    colors = []
    unfamiliar = 0
    for name in classes:
        color = _FAMILIAR.get("".join(filter(str.isalnum, name.lower())))
        if color is None:
            color = _spread(unfamiliar)
            unfamiliar += 1
        colors.append(color)
    return colors


def _spread(i: int) -> RGB:
    """Return the ``i``-th of a sequence in which near neighbors have distant hues."""
    hue = (0.07 + i * _GOLDEN_RATIO) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.62 if i % 2 else 0.8, 0.88 if i % 3 else 0.68)
    return round(red * 255), round(green * 255), round(blue * 255)
