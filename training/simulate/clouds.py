"""Simulated clouds over optical patches, with the exact cover of each patch.

``cloudy = (1 - a) * ground * shadow + a * cloud`` per band and pixel, where the opacity ``a`` is
a thresholded power-law field with soft edges. Clouds are bright and nearly flat from blue to near
infrared, darker in the shortwave infrared, dark in the water-vapor band B09 and faint in the
cirrus band B10, both rising with height. The clouds are ours, not those of any published set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Array, Floats
from esccs_edge.errors import InputError

from .noise import power_law_field
from .textures import CloudTextures

#: A pixel counts as cloudy when the cloud hides at least this share of the ground's light.
CLOUDY_OPACITY = 0.3
#: Share of simulated skies that are thin everywhere (haze, cirrus) rather than opaque.
THIN_SHARE = 0.15
#: Largest shadow shift in pixels (10 m): a cloud at about 3 km under a sun at 60 degrees.
MAX_SHADOW_SHIFT = 24
#: Full scale of stored integers: Sentinel-2 digital numbers and 8-bit pictures.
UNITS_PER_REFLECTANCE = {"u2": 1e4, "i2": 1e4, "u1": 255.0}

_SHORTWAVE = {"B11": 0.78, "B12": 0.64}


@dataclass(frozen=True)
class Sky:
    """One drawn cloud situation: what `simulate_clouds` decides before it touches a pixel.

    Attributes:
        softness: Width of cloud edges, in standard deviations of the field.
        peak_opacity: Opacity of the thickest cloud.
        brightness: Reflectance of the thickest cloud in the visible.
        height: 0 for low clouds to 1 for high ones; sets B09 and B10.
        shadow: What remains of the light in full shadow; 1 means no shadow.
        shift: Rows and columns from a cloud to its shadow, at most `MAX_SHADOW_SHIFT`.
        slope: Power-law exponent of the field; lower is more ragged.
        stretch: How much longer than wide the clouds are.
        angle: Direction of the stretch in radians.
    """

    softness: float
    peak_opacity: float
    brightness: float
    height: float
    shadow: float
    shift: tuple[int, int]
    slope: float
    stretch: float
    angle: float


def simulate_clouds(
    optical: Array,
    bands: Sequence[str],
    cover: float,
    rng: np.random.Generator,
    textures: CloudTextures | None = None,
    *,
    sky: Sky | None = None,
) -> tuple[Array, float, npt.NDArray[np.bool_]]:
    """Lay clouds of a wanted cover over one clear patch.

    Args:
        optical: ``(C, H, W)`` clear digital numbers (uint16, int16: reflectance x 10000; uint8:
            255 is white) or float reflectance.
        bands: Channel names; unknown names get the flat visible spectrum.
        cover: Wanted share of cloudy pixels in [0, 1]; 0 returns the patch unchanged.
        rng: Source of randomness; same state, same clouds.
        textures: Shapes and spectra of real clouds, used for half of the skies.
        sky: The cloud situation; None draws one.

    Returns:
        The cloudy patch (dtype of ``optical``), the exact share of pixels with opacity of at least
        `CLOUDY_OPACITY`, and the mask ``(H, W)`` of these pixels. All-zero pixels stay zero.

    Raises:
        InputError: ``cover`` is outside [0, 1] or the shapes do not fit.
    """
    _check(optical, bands, cover)
    height, width = optical.shape[1:]
    if cover == 0.0:
        return optical.copy(), 0.0, np.zeros((height, width), bool)
    real = textures is not None and rng.random() < 0.5
    if sky is None:
        sky = draw_sky(rng, min(height, width), is_8bit=optical.dtype.itemsize == 1)
    margin = MAX_SHADOW_SHIFT
    shape = (height + 2 * margin, width + 2 * margin + width % 2)
    field = textures.field(shape, cover, rng) if textures is not None and real else None
    if field is None:
        field = power_law_field(*shape, sky.slope, rng, stretch=sky.stretch, angle=sky.angle)
    inner = (slice(margin, margin + height), slice(margin, margin + width))
    level = _threshold(field[inner], cover)
    opacity, thickness = _opacity(field, level, sky)
    spectrum = textures.ramp(bands, rng) if textures is not None and real else None
    if spectrum is None:
        spectrum = cloud_ramp(bands, sky)
    scale = UNITS_PER_REFLECTANCE.get(optical.dtype.str[1:], 1.0)
    lit = _shadowed(optical, opacity, inner, sky)
    cloudy = _blend(lit, opacity[inner], thickness[inner], spectrum * np.float32(scale))
    mask = opacity[inner] >= CLOUDY_OPACITY
    return _stored(cloudy, optical), float(mask.mean()), mask


def draw_sky(rng: np.random.Generator, size: int, *, is_8bit: bool = False) -> Sky:
    """Draw one cloud situation for a patch of ``size`` pixels."""
    thin = rng.random() < THIN_SHARE
    reach = rng.uniform(3, min(MAX_SHADOW_SHIFT, max(4, size // 3)))
    direction = rng.uniform(0, 2 * np.pi)
    return Sky(
        softness=float(rng.uniform(0.2, 0.9)),
        peak_opacity=float(rng.uniform(0.4, 0.75) if thin else rng.uniform(0.93, 1.0)),
        brightness=float(rng.uniform(0.7, 1.0) if is_8bit else rng.uniform(0.5, 0.9)),
        height=float(rng.beta(1.2, 1.8)),
        shadow=float(rng.uniform(0.3, 0.6) if rng.random() < 0.75 else 1.0),
        shift=(round(reach * np.sin(direction)), round(reach * np.cos(direction))),
        slope=float(rng.uniform(2.9, 4.0)),
        stretch=float(rng.uniform(1.0, 2.5)),
        angle=float(rng.uniform(0, np.pi)),
    )


def cloud_ramp(bands: Sequence[str], sky: Sky) -> Floats:
    """Return cloud reflectance ``(2, C)`` at the thin edge and in the thick core.

    Shortwave factors are those of the brightest pixels of real Sentinel-2 L1C clouds (B11 0.79,
    B12 0.66 of B08); B09 and B10 span what low and high clouds show there.
    """
    factor = {"B09": 0.15 + 0.5 * sky.height, **_SHORTWAVE}
    core = np.array([sky.brightness * factor.get(band, 1.0) for band in bands], np.float32)
    ramp = np.stack([0.8 * core, core])
    if "B10" in bands:
        ramp[:, list(bands).index("B10")] = 0.002 + 0.05 * sky.height**2
    return ramp


def _check(optical: Array, bands: Sequence[str], cover: float) -> None:
    if optical.ndim != 3 or optical.shape[0] != len(bands):
        raise InputError(f"optical patch is {optical.shape}, expected ({len(bands)}, H, W)")
    if not 0.0 <= cover <= 1.0:
        raise InputError(f"cloud cover is {cover}, expected a share in [0, 1]")


def _threshold(field: Floats, cover: float) -> float:
    """Field value that exactly ``round(cover * pixels)`` pixels reach."""
    values = field.ravel()
    wanted = round(cover * values.size)
    if wanted == 0:
        return float(values.max()) + 1e-3
    if wanted == values.size:
        return float(values.min()) - 0.5
    return float(np.partition(values, values.size - wanted)[values.size - wanted])


def _opacity(field: Floats, level: float, sky: Sky) -> tuple[Floats, Floats]:
    """Return opacity and thickness in [0, 1]; opacity passes `CLOUDY_OPACITY` at ``level``."""
    depth = field - np.float32(level)
    opacity = np.clip(depth / np.float32(sky.softness) + np.float32(CLOUDY_OPACITY), 0.0,
                      np.float32(sky.peak_opacity))  # fmt: skip
    return opacity, np.clip(depth * np.float32(0.6), 0.0, 1.0)


def _shadowed(
    optical: Array, opacity: Floats, inner: tuple[slice, slice], sky: Sky
) -> npt.NDArray[np.float32]:
    ground = optical.astype(np.float32)
    if sky.shadow < 1.0:
        rows, columns = (
            slice(part.start - step, part.stop - step)
            for part, step in zip(inner, sky.shift, strict=True)
        )
        ground *= 1.0 - np.float32(1.0 - sky.shadow) * opacity[rows, columns]
    return ground


def _blend(ground: Array, opacity: Floats, thickness: Floats, ramp: Floats) -> Array:
    """Mix in place, band by band, the cloud color interpolated along the ramp by thickness."""
    steps = len(ramp) - 1
    place = thickness * np.float32(steps)
    lower = np.minimum(place.astype(np.int32), steps - 1)
    rest = place - lower
    for band, pixels in enumerate(ground):
        colors = ramp[:, band]
        if steps == 1:
            cloud = colors[0] + (colors[1] - colors[0]) * thickness
        else:
            cloud = colors[lower] * (1 - rest) + colors[lower + 1] * rest
        pixels += opacity * (cloud - pixels)
    return ground


def _stored(cloudy: Array, optical: Array) -> Array:
    if np.issubdtype(optical.dtype, np.integer):
        cloudy += np.float32(0.5)
        np.minimum(cloudy, np.float32(np.iinfo(optical.dtype).max), out=cloudy)
    stored = cloudy.astype(optical.dtype)
    absent = ~optical.any(axis=0)
    if absent.any():
        stored[:, absent] = 0
    return stored
