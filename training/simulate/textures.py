"""Shapes and spectra of real clouds, measured from cloudy Sentinel-2 images at run time.

Only two things are kept in memory: fields of cloud thickness (any cover can be cut from them by
their ranks) and, per image, the mean cloud spectrum from its thin to its thick parts. No pixel of
the images is stored or shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.contracts.types import Array, Floats
from esccs_edge.errors import InputError, MissingDependencyError

#: Darkest visible reflectance from which a pixel of a cloudy image is taken as cloud.
CLOUD_REFLECTANCE = 0.25
#: Least share of such pixels for an image to be used.
MIN_CLOUD_SHARE = 0.05
RAMP_STEPS = 8
CROP_TRIES = 6


@dataclass(frozen=True, eq=False)
class CloudTextures:
    """What real clouds look like.

    Attributes:
        fields: Thickness fields ``(H, W)`` of unit standard deviation, positive where cloudy.
        ramps: Mean cloud reflectance ``(RAMP_STEPS, C)`` of each image, thin to thick.
        bands: Channel names of the ramps.
    """

    fields: tuple[Floats, ...]
    ramps: tuple[Floats, ...]
    bands: tuple[str, ...] = SENTINEL2_L1C_BANDS

    @classmethod
    def measure(
        cls, reflectances: Sequence[Array], bands: Sequence[str] = SENTINEL2_L1C_BANDS
    ) -> CloudTextures:
        """Measure cloudy images ``(C, H, W)`` in reflectance; images with few clouds are left out.

        Raises:
            InputError: No image shows clouds on at least `MIN_CLOUD_SHARE` of its pixels.
        """
        visible = [list(bands).index(band) for band in ("B02", "B03", "B04")]
        fields, ramps = [], []
        for image in reflectances:
            darkest = image[visible].min(axis=0)
            clouds = darkest > CLOUD_REFLECTANCE
            if clouds.mean() >= MIN_CLOUD_SHARE:
                fields.append(_thickness(darkest))
                ramps.append(_ramp(image[:, clouds], darkest[clouds]))
        if not fields:
            raise InputError("no image shows clouds, expected at least one cloudy image")
        return cls(tuple(fields), tuple(ramps), tuple(bands))

    @classmethod
    def read(cls, folder: str | Path) -> CloudTextures:
        """Measure every ``s2_cloudy/*.tif`` (13 bands, L1C digital numbers) under a folder.

        Raises:
            InputError: No such file, or none with clouds.
            MissingDependencyError: rasterio is not installed.
        """
        try:
            import rasterio
        except ImportError as error:
            raise MissingDependencyError.for_extra("rasterio", "geo", "Reading GeoTIFFs") from error
        paths = sorted(Path(folder).rglob("s2_cloudy/*.tif"))
        if not paths:
            raise InputError(f"no s2_cloudy/*.tif under {folder}", hint="Give a SEN12MS-CR folder")
        images = []
        for path in paths:
            with rasterio.open(path) as raster:
                images.append(raster.read().astype(np.float32) * np.float32(1e-4))
        return cls.measure(images)

    def field(
        self, shape: tuple[int, int], cover: float, rng: np.random.Generator
    ) -> Floats | None:
        """Return a random crop of a real field, turned at random.

        A crop must be at least as cloudy as the wanted cover, since below the clouds a field
        shows the ground of its own image. None if no such crop was found in a few tries.
        """
        fitting = [f for f in self.fields if min(f.shape) >= max(shape)]
        for _ in range(CROP_TRIES if fitting else 0):
            whole = fitting[rng.integers(len(fitting))]
            top, left = (
                int(rng.integers(n - m + 1)) for n, m in zip(whole.shape, shape, strict=True)
            )
            crop = whole[top : top + shape[0], left : left + shape[1]]
            if np.mean(crop[::4, ::4] > 0) >= min(cover, 0.95):
                turned = np.rot90(crop, int(rng.integers(4))) if shape[0] == shape[1] else crop
                return turned[:, :: rng.choice((-1, 1))]
        return None

    def ramp(self, bands: Sequence[str], rng: np.random.Generator) -> Floats | None:
        """Return a real ramp ``(RAMP_STEPS, len(bands))``; None if a band was not measured."""
        if not set(bands) <= set(self.bands):
            return None
        order = [self.bands.index(band) for band in bands]
        return self.ramps[rng.integers(len(self.ramps))][:, order]


def _thickness(darkest: Array) -> Floats:
    # Stored reflectances are multiples of 1e-4; without ties any cover can be cut exactly.
    dither = np.random.default_rng(0).uniform(-0.5e-4, 0.5e-4, darkest.shape)
    field = np.log((np.maximum(darkest, 0.02) + dither) / CLOUD_REFLECTANCE)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def _ramp(spectra: Array, darkness: Array) -> Floats:
    """Mean spectrum ``(RAMP_STEPS, C)`` of equal shares of the pixels, darkest first."""
    order = np.argsort(darkness)
    parts = np.array_split(spectra[:, order], RAMP_STEPS, axis=1)
    return np.stack([part.mean(axis=1) for part in parts]).astype(np.float32)
