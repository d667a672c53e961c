"""What a product is once its metadata are read: bands by name, level, date, and what to know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from ...contracts.modality import ModalitySpec
from ...contracts.sensors import POLARIZATIONS
from ...contracts.types import Array
from ...errors import RasterError

#: Sentinel-2 digital numbers: nodata, and the highest value, which means saturated.
ABSENT_DN = 0


@dataclass(frozen=True)
class Stating:
    """What the user says of inputs that carry no metadata.

    Attributes:
        dn_offset: Added to digital numbers of optical images.
        sar_unit: ``"dB"`` or ``"linear"``.
        remote: Whether addresses on a network may be read.
    """

    dn_offset: float | None = None
    sar_unit: str | None = None
    remote: bool = False


NOTHING_STATED = Stating()


@dataclass(frozen=True)
class SigmaNought:
    """Calibration of detected SAR amplitudes: ``sigma0 = dn ** 2 / a ** 2``.

    Sentinel-1 Level 1 Detailed Algorithm Definition, "radiometric calibration"; the vectors are
    those of the product's calibration annotation.

    Attributes:
        lines: Image line of each vector, rising.
        pixels: Image columns of each vector's values, rising.
        values: ``a`` at each of them.
    """

    lines: tuple[int, ...]
    pixels: tuple[npt.NDArray[np.float64], ...]
    values: tuple[npt.NDArray[np.float64], ...]

    def factors(
        self, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Return ``1 / a ** 2`` at each row and column ``(rows, columns)``, interpolated."""
        per_vector = np.array(
            [np.interp(columns, p, v) for p, v in zip(self.pixels, self.values, strict=True)]
        )
        at_rows = [np.interp(rows, self.lines, column) for column in per_vector.T]
        return np.asarray(1 / np.square(np.array(at_rows).T), np.float32)


@dataclass(frozen=True)
class Band:
    """One band of a product: where it is stored and what its numbers mean.

    ``value = stored * scale + offset``, in ``unit``.

    Attributes:
        name: Band or polarization.
        file: What GDAL opens: a path, also one inside a zip archive.
        driver: The one GDAL driver that may open it.
        number: Band of the file, counted from 1.
        unit: ``"reflectance"``, ``"dB"`` or ``"linear"``; ``"dn"`` is amplitude to calibrate.
        scale: See above.
        offset: See above.
        nodata: Stored values that mark an absent pixel.
        alpha: Band of the file that is 0 where pixels are absent, or None.
        calibration: Turns ``"dn"`` into linear sigma0.
    """

    name: str
    file: str
    driver: str
    number: int = 1
    unit: str = "reflectance"
    scale: float = 1.0
    offset: float = 0.0
    nodata: tuple[float, ...] = ()
    alpha: int | None = None
    calibration: SigmaNought | None = None


@dataclass(frozen=True)
class Product:
    """One product, or a file or folder of bands taken for one.

    Attributes:
        name: What to call it.
        bands: Its bands.
        level: ``"L1C"``, ``"L2A"``, ``"GRD"``, or None where not known.
        acquired: When, as far as known.
        baseline: Processing baseline of Sentinel-2.
        zero_is_absent: Whether 0 in any one band marks a pixel outside the image. Products with an
            offset never measure it; older ones do, in the cirrus band.
        notes: What a user should know of how it was read.
    """

    name: str
    bands: tuple[Band, ...]
    level: str | None = None
    acquired: datetime | None = None
    baseline: str | None = None
    zero_is_absent: bool = False
    notes: tuple[str, ...] = ()

    def picked(self, spec: ModalitySpec) -> tuple[Band, ...]:
        """Return the model's channels, in its order.

        Raises:
            RasterError: The product is of another level, or a channel is not there or is there
                twice.
        """
        self._require_level(spec)
        named = {band.name: band for band in self.bands}
        if missing := [channel for channel in spec.channels if channel not in named]:
            found = ", ".join(named) or "none"
            raise RasterError(
                f"{self.name} has bands {found} and lacks {', '.join(missing)}",
                hint=_hint_for(missing, spec) if self.level is None else _hint_of_product(missing),
            )
        return tuple(named[channel] for channel in spec.channels)

    def _require_level(self, spec: ModalitySpec) -> None:
        levels = spec.level.split(" or ")
        if self.level in ("L1C", "L2A") and self.level not in levels:
            raise RasterError(
                f"{self.name} is a {self.level} product, expected {spec.level}",
                hint=_LEVEL_HINTS[self.level],
            )


_LEVEL_HINTS = {
    "L2A": "The model reads reflectance at the top of the atmosphere and the cirrus band B10, "
    "which L2A does not have: download the L1C product of the same date (MSIL1C in its name), or "
    "train a model on L2A and give it with --bundle",
    "L1C": "The model reads surface reflectance: download the L2A product of the same date (MSIL2A "
    "in its name)",
}


def _hint_of_product(missing: list[str]) -> str:
    if missing == ["B10"]:
        return _LEVEL_HINTS["L2A"]
    if set(missing) <= set(POLARIZATIONS):
        return "Choose a product of dual polarization (1SDV in its name), and all of its files"
    return "The product is not complete: download it again"


def _hint_for(missing: list[str], spec: ModalitySpec) -> str:
    if missing == ["B10"]:
        return _LEVEL_HINTS["L2A"]
    if spec.unit == "dB":
        return f"The model reads {', '.join(spec.channels)}: choose a dual-polarization product"
    return f"The model reads {', '.join(spec.channels)}; names of files or bands must hold them"


def finest_first(bands: list[tuple[str, float, Band]], name: str) -> tuple[Band, ...]:
    """Return one file per band: the one of the finest pixels.

    Args:
        bands: Band name, pixel size, band.
        name: What to call the product in errors.

    Raises:
        RasterError: A band is there twice at one pixel size.
    """
    chosen: dict[str, tuple[float, Band]] = {}
    for band_name, pixel, band in sorted(bands, key=lambda found: found[:2]):
        if band_name not in chosen:
            chosen[band_name] = pixel, band
        elif chosen[band_name][0] == pixel:
            raise RasterError(
                f"{name} has two files of {band_name}: {chosen[band_name][1].file} and {band.file}",
                hint="Give a folder with the files of one product",
            )
    return tuple(band for _, band in chosen.values())


def reflectance_as_stored(values: Array, spec: ModalitySpec, dtype: type[np.integer]) -> Array:
    """Return reflectance as digital numbers of the model's contract; measured ones are at least 1.

    Raises:
        RasterError: The contract has no scale.
    """
    if spec.dn_scale is None:
        raise RasterError("the model reads no digital numbers, expected a scale in its manifest")
    numbers = np.rint(values / spec.dn_scale - spec.dn_offset)
    return np.clip(numbers, 1, np.iinfo(dtype).max).astype(dtype)
