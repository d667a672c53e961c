"""Another light over the same ground: sun and sensor gains, and haze, on stored pixels.

Haze is path radiance: scattered light that never saw the ground. It falls with wavelength as
``wavelength ** -a``, with ``a`` about 4 for clear air and near 1 for dust and smoke. The cirrus
band B10 lies where water vapor absorbs all light from below, so that haze near the ground cannot
show in it; an offset there would be a cloud that no network has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from esccs_edge.contracts.types import Array, Floats
from esccs_edge.errors import InputError

#: Central wavelengths in micrometers (Sentinel-2 MSI user guide, ESA).
WAVELENGTHS = {
    "B01": 0.443, "B02": 0.492, "B03": 0.560, "B04": 0.665, "B05": 0.704, "B06": 0.741,
    "B07": 0.783, "B08": 0.833, "B8A": 0.865, "B09": 0.945, "B10": 1.374,
    "B11": 1.614, "B12": 2.202,
}  # fmt: skip
#: Share of the haze that shows in bands where water vapor absorbs.
ABSORBED = {"B09": 0.3, "B10": 0.0}
#: Full scale of stored integers: Sentinel-2 digital numbers and 8-bit pictures.
UNITS_PER_REFLECTANCE = {"u2": 1e4, "i2": 1e4, "u1": 255.0}
#: Common gain of a patch: the sun and the season.
GAIN_RANGE = (0.75, 1.25)
#: Standard deviation of the gain of one band: calibration and the slope of the spectrum.
BAND_GAIN_STD = 0.03
#: Haze in blue reflectance; real cloudy images have up to 0.02 more than their clear partners
#: outside the clouds (SEN12MS-CR, six places).
HAZE_RANGE = (0.0, 0.03)
HAZE_EXPONENTS = (1.0, 4.0)


@dataclass(frozen=True)
class Light:
    """One drawn light.

    Attributes:
        gain: ``(C,)`` factor of each channel.
        veil: ``(C,)`` reflectance that haze adds to each channel.
    """

    gain: Floats
    veil: Floats

    def on(self, optical: Array) -> Array:
        """Return ``(C, H, W)`` pixels as this light would show them.

        Args:
            optical: Digital numbers (uint16, int16: reflectance x 10000; uint8: 255 is white) or
                float reflectance.

        Returns:
            The patch in the dtype of ``optical``, saturated at its largest number. All-zero pixels
            stay zero, and no pixel becomes one.

        Raises:
            InputError: The shape does not fit the channels.
        """
        if optical.ndim != 3 or len(optical) != len(self.gain):
            raise InputError(f"optical patch is {optical.shape}, expected ({len(self.gain)}, H, W)")
        scale = np.float32(UNITS_PER_REFLECTANCE.get(optical.dtype.str[1:], 1.0))
        changed = optical * self.gain[:, None, None]
        changed += (self.veil * scale)[:, None, None]
        return stored(changed, optical)


def draw_light(
    bands: Sequence[str],
    rng: np.random.Generator,
    *,
    gains: tuple[float, float] = GAIN_RANGE,
    band_gain_std: float = BAND_GAIN_STD,
    haze: tuple[float, float] = HAZE_RANGE,
) -> Light:
    """Draw a light.

    Args:
        bands: Channel names; unknown ones get the haze of the green band.
        rng: Source of randomness.
        gains: Range of the gain that all bands share.
        band_gain_std: Standard deviation of the gain of each band.
        haze: Range of the haze, in reflectance of the blue band B02.
    """
    gain = rng.uniform(*gains) * np.clip(rng.normal(1.0, band_gain_std, len(bands)), 0.5, 1.5)
    veil = rng.uniform(*haze) * path_radiance(bands, rng.uniform(*HAZE_EXPONENTS))
    return Light(gain.astype(np.float32), veil.astype(np.float32))


def path_radiance(bands: Sequence[str], exponent: float) -> Floats:
    """Return the haze of each band relative to B02, ``(C,)``; none in the cirrus band."""
    shares = [
        (WAVELENGTHS.get(band, WAVELENGTHS["B03"]) / WAVELENGTHS["B02"]) ** -exponent
        * ABSORBED.get(band, 1.0)
        for band in bands
    ]  # fmt: skip
    return np.array(shares, np.float32)


def stored(changed: Array, optical: Array) -> Array:
    """Round and saturate float pixels to the dtype of ``optical``, and keep what is absent there.

    Absent is what is zero in all bands, or not finite. ``changed`` may be overwritten.
    """
    present = optical.any(axis=0)
    if np.issubdtype(optical.dtype, np.integer):
        changed += np.float32(0.5)
        np.clip(changed, 0.0, np.float32(np.iinfo(optical.dtype).max), out=changed)
    pixels = changed.astype(optical.dtype)
    if not present.all():
        pixels[:, ~present] = 0
    if np.issubdtype(optical.dtype, np.integer):
        # A dark pixel that rounds to zero in all bands would read as absent.
        np.maximum(pixels[0], present, out=pixels[0], casting="unsafe")
    return pixels
