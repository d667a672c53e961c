"""Simulated clouds over optical patches, with the exact cover of each patch.

``cloudy = (1 - a) * (haze + shadowed ground) + a * cloud`` per band and pixel. The opacity
``a = peak * (1 - exp(-t))`` follows from an optical thickness ``t`` that grows with a power-law
field. Figures come from real cloudy and clear images of six places (SEN12MS-CR, CC-BY 4.0), and
`docs/cloud-simulation.md` holds the result against them: most clouds are thin enough for ground
to show, shadows keep the blue light of the sky, and only high clouds show in the cirrus band.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Array, Floats
from esccs_edge.errors import InputError

from .light import ABSORBED, UNITS_PER_REFLECTANCE, path_radiance, stored
from .noise import power_law_field
from .textures import CloudTextures

#: A pixel counts as cloudy when the cloud hides at least this share of the ground's light. Of all
#: opacities this one agrees best with s2cloudless masks (median of 12 images, 0.04 to 0.3).
CLOUDY_OPACITY = 0.1
#: Share of simulated skies that are thin everywhere (haze, cirrus) rather than opaque.
THIN_SHARE = 0.2
#: Largest shadow shift in pixels (10 m): a cloud at about 3 km under a sun at 60 degrees.
MAX_SHADOW_SHIFT = 24
#: Opaque cloud relative to blue, such that half-clear pixels gain what real ones do between clear
#: and cloudy. A little more in the near infrared than opaque images show (B8A 1.09 to 1.18): light
#: goes to and fro between a cloud and the vegetation under it.
CORE = {
    "B03": 0.97, "B04": 1.05, "B05": 1.06, "B06": 1.12, "B07": 1.17, "B08": 1.12, "B8A": 1.20,
}  # fmt: skip
#: Shortwave infrared relative to blue: water clouds, and what ice takes away.
WATER_SHORTWAVE, ICE_LOSS = {"B11": 1.04, "B12": 0.82}, {"B11": 0.5, "B12": 0.42}
#: What full shadow leaves of the light where the near infrared B08 keeps 0.55 (medians of seven
#: images). The light of the sky stays, and it is blue.
SHADOWED = {
    "B01": 0.97, "B02": 0.95, "B03": 0.80, "B04": 0.63, "B05": 0.60, "B06": 0.56, "B07": 0.56,
    "B08": 0.55, "B8A": 0.54, "B09": 0.63, "B10": 1.0, "B11": 0.40, "B12": 0.41,
}  # fmt: skip
#: Thin rims are bluer than cores: ``wavelength ** -RIM_EXPONENT``.
RIM_EXPONENT = 0.15
#: When a band sees a place after B02 does, in seconds (Sentinel-2 MSI: focal plane, ESA).
SEEN_AFTER = {
    "B02": 0.0, "B08": 0.264, "B03": 0.527, "B10": 0.851, "B04": 1.005, "B05": 1.269, "B11": 1.468,
    "B06": 1.525, "B07": 1.79, "B8A": 2.055, "B12": 2.085, "B01": 2.314, "B09": 2.586,
}  # fmt: skip
#: Pixels (10 m) that a cloud top moves per second and km: 7 km/s at 786 km. In real images, 1 to 8
#: pixels per second; the ground track is turned, so that columns move by about a third of rows.
PARALLAX, TURNED = 0.89, -0.3
#: Bands of 20 and 60 m see clouds as means over 2 and 6 pixels.
COARSE = dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 2) | dict.fromkeys(
    ("B01", "B09", "B10"), 6
)
#: Optical thickness of real images rises faster with their field than that of a drawn one.
TEXTURE_STEEPNESS = 4.0


@dataclass(frozen=True)
class Sky:
    """One drawn cloud situation: what `simulate_clouds` decides before it touches a pixel.

    Attributes:
        softness: Standard deviations of the field in which optical thickness grows by 1.
        peak_opacity: Opacity of the thickest cloud.
        brightness: Reflectance of opaque cloud in the blue.
        height: 0 for low clouds to 1 for cirrus or very dry air; sets B09 and B10.
        shadow: What remains of the near infrared in full shadow; 1 means no shadow.
        shift: Rows and columns from a cloud to its shadow, at most `MAX_SHADOW_SHIFT`.
        slope: Power-law exponent of the field; lower is more ragged.
        stretch: How much longer than wide the clouds are.
        angle: Direction of the stretch in radians.
        ice: 0 for droplets to 1 for ice crystals, which absorb in the shortwave infrared.
        haze: Haze between the clouds, in reflectance of the blue band.
        haze_exponent: How fast haze falls with wavelength.
        veil: Least opacity anywhere, below `CLOUDY_OPACITY`: cirrus without an edge.
        top_km: Height of the tops over the ground, in km, which the bands see displaced; negative
            where the detector looks the other way along the track.
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
    ice: float = 0.0
    haze: float = 0.0
    haze_exponent: float = 2.0
    veil: float = 0.0
    top_km: float = 0.0


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
    spectrum = textures.ramp(bands, rng) if textures is not None and real else None
    steepness = 1.0 if spectrum is None else TEXTURE_STEEPNESS
    opacity = _opacity(field, level, sky, steepness)
    seen = {1: opacity} | {size: _block_mean(opacity, size) for size in _sizes(bands)}
    thickness = None
    if spectrum is None:
        spectrum = cloud_ramp(bands, sky)
    else:
        thickness = np.clip((field[inner] - level) * np.float32(0.6), 0.0, 1.0)
    scale = np.float32(UNITS_PER_REFLECTANCE.get(optical.dtype.str[1:], 1.0))
    cloudy = _lit(optical, bands, seen, inner, sky, scale)
    ramp = spectrum * scale
    for number, band in enumerate(bands):
        veil = seen[COARSE.get(band, 1)][_moved(inner, _parallax(band, sky))]
        _blend(cloudy[number], veil, veil if thickness is None else thickness, ramp[:, number])
    mask = field[inner] >= level
    return stored(cloudy, optical), float(mask.mean()), mask


def draw_sky(rng: np.random.Generator, size: int, *, is_8bit: bool = False) -> Sky:
    """Draw one cloud situation for a patch of ``size`` pixels."""
    thin = rng.random() < THIN_SHARE
    reach = rng.uniform(3, min(MAX_SHADOW_SHIFT, max(4, size // 3)))
    direction = rng.uniform(0, 2 * np.pi)
    height = float(rng.beta(0.9, 1.1))
    return Sky(
        softness=float(np.exp(rng.uniform(np.log(0.8), np.log(5.0)))),
        peak_opacity=float(rng.uniform(0.25, 0.6) if thin else rng.uniform(0.9, 1.0)),
        brightness=float(rng.uniform(0.7, 1.0) if is_8bit else rng.uniform(0.55, 1.0)),
        height=height,
        shadow=float(rng.uniform(0.3, 0.65) if rng.random() < 0.85 else 1.0),
        shift=(round(reach * np.sin(direction)), round(reach * np.cos(direction))),
        slope=float(rng.uniform(3.2, 4.2)),
        stretch=float(rng.uniform(1.0, 2.5)),
        angle=float(rng.uniform(0, np.pi)),
        ice=float(rng.uniform(0.5, 1.0) if rng.random() < height**2 else rng.uniform(0.0, 0.2)),
        haze=float(min(rng.exponential(0.01), 0.04)),
        haze_exponent=float(rng.uniform(1.0, 4.0)),
        veil=float(rng.uniform(0.0, 0.6) * CLOUDY_OPACITY * height),
        top_km=float((0.5 + 10.0 * height * rng.random()) * (1 if rng.random() < 0.5 else -1)),
    )


def cloud_ramp(bands: Sequence[str], sky: Sky) -> Floats:
    """Return cloud reflectance ``(2, C)`` at the thin rim and in the opaque core.

    Water vapor above a cloud darkens B09 and hides it in B10, where cirrus alone shows: there
    cirrus has about a third of its blue, clouds of middle height a twentieth, low ones nothing.
    """
    factor = dict(CORE)
    factor.update({b: WATER_SHORTWAVE[b] - ICE_LOSS[b] * sky.ice for b in WATER_SHORTWAVE})
    factor["B09"] = 0.05 + 0.85 * sky.height
    factor["B10"] = 0.002 + 0.35 * sky.height**5
    core = np.array([sky.brightness * factor.get(band, 1.0) for band in bands], np.float32)
    blue = path_radiance([b if b not in ABSORBED else "B02" for b in bands], RIM_EXPONENT)
    return np.stack([core * blue, core])


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


def _opacity(field: Floats, level: float, sky: Sky, steepness: float) -> Floats:
    """Return the opacity, which passes `CLOUDY_OPACITY` at ``level``."""
    depth = (field - np.float32(level)) * np.float32(-steepness / sky.softness)
    depth += np.float32(np.log(1.0 - CLOUDY_OPACITY / sky.peak_opacity))
    np.minimum(depth, 0.0, out=depth)
    opacity = np.float32(sky.peak_opacity) * (1 - np.exp(depth, out=depth))
    return np.asarray(np.maximum(opacity, np.float32(sky.veil), out=opacity))


def _sizes(bands: Sequence[str]) -> set[int]:
    return {COARSE[band] for band in bands if band in COARSE}


def _block_mean(field: Floats, size: int) -> Floats:
    """Mean of ``size`` x ``size`` pixels around each, ``size`` 2 or 6; zero beyond the edges."""
    for axis in (0, 1):
        lines = field if axis == 0 else field.T
        pairs = lines.copy()
        pairs[1:] += lines[:-1]
        if size == 6:
            sums = pairs.copy()
            sums[2:] += pairs[:-2]
            sums[:-2] += pairs[2:]
            pairs = sums
        field = pairs if axis == 0 else pairs.T
    return field * np.float32(1.0 / size**2)


def _parallax(band: str, sky: Sky) -> tuple[int, int]:
    """Rows and columns by which a band sees the tops displaced, against the red band."""
    rows = PARALLAX * sky.top_km * (SEEN_AFTER.get(band, SEEN_AFTER["B04"]) - SEEN_AFTER["B04"])
    rows = max(-MAX_SHADOW_SHIFT, min(MAX_SHADOW_SHIFT, rows))
    return round(rows), round(TURNED * rows)


def _moved(inner: tuple[slice, slice], shift: tuple[int, int]) -> tuple[slice, slice]:
    rows, columns = (
        slice(part.start - step, part.stop - step) for part, step in zip(inner, shift, strict=True)
    )
    return rows, columns


def _lit(
    optical: Array,
    bands: Sequence[str],
    seen: Mapping[int, Floats],
    inner: tuple[slice, slice],
    sky: Sky,
    scale: np.float32,
) -> npt.NDArray[np.float32]:
    """Return the ground under its shadows and haze, before any cloud lies over it."""
    ground = optical.astype(np.float32)
    if sky.shadow < 1.0:
        shades = {size: opacity[_moved(inner, sky.shift)] for size, opacity in seen.items()}
        strength = np.log(sky.shadow) / np.log(SHADOWED["B08"])
        for band, pixels in zip(bands, ground, strict=True):
            loss = 1.0 - SHADOWED.get(band, SHADOWED["B04"]) ** strength
            if loss > 0.0:
                pixels *= 1 - np.float32(loss) * shades[COARSE.get(band, 1)]
    haze = path_radiance(bands, sky.haze_exponent) * np.float32(sky.haze) * scale
    ground += haze[:, None, None]
    return ground


def _blend(ground: Array, opacity: Floats, thickness: Floats, colors: Floats) -> None:
    """Lay cloud over one band in place, its color interpolated along the ramp by thickness."""
    steps = len(colors) - 1
    if steps == 1:
        cloud = colors[0] + (colors[1] - colors[0]) * thickness
    else:
        place = thickness * np.float32(steps)
        lower = np.minimum(place.astype(np.int32), steps - 1)
        rest = place - lower
        cloud = colors[lower] * (1 - rest) + colors[lower + 1] * rest
    ground += opacity * (cloud - ground)
