"""Files that hold one real pair in every way in which people store it, right and wrong.

`Stored` says what is done to the physical values on their way into a file; `write` does it. What a
model should read is always the same: `truth`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from esccs_edge.contracts.sensors import EUROSAT_BANDS, SENTINEL1_POLARIZATIONS, SENTINEL2_L1C_BANDS
from esccs_edge.example import example_pair
from esccs_edge.rasters.gdal import without_georeference
from support.rasters import NORTH_UP, UTM, north_up

#: Rows and columns without data, where a file has some.
ABSENT = np.zeros((64, 64), bool)
ABSENT[10:14, 20:40] = True
COMMON = "coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 cirrus swir16 swir22"
NANOMETERS = (443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190)
WORDS = {
    "B01": SENTINEL2_L1C_BANDS,
    "Band 8A": tuple("Band " + band[1:].lstrip("0") for band in SENTINEL2_L1C_BANDS),
    "common": tuple(COMMON.split()),
    "842 nm": tuple(f"{n} nm" for n in NANOMETERS),
    "unknown": tuple("Anna Berta Cara Dora Ella Fina Gita Hedi Ida Jana Kira Lena Mona".split()),
    "counted": tuple(f"Band {i}" for i in range(1, 14)),
    "none": (None,) * 13,
}
SAR_WORDS = {
    "B01": SENTINEL1_POLARIZATIONS,
    "Band 8A": ("Sigma0_VV_db", "Sigma0_VH_db"),
    "common": ("co-pol", "cross-pol"),
    "842 nm": ("VV, 5.6 cm", "VH, 5.6 cm"),
    "unknown": ("Anna", "Berta"),
    "counted": ("Band 1", "Band 2"),
    "none": (None, None),
}
#: Pixel size -> coordinate system and transform.
GRIDS: dict[str, tuple[str | None, Affine]] = {
    "10 m": (UTM, NORTH_UP),
    "degrees": ("EPSG:4326", north_up(10.0, 40.0, 1.1e-4, 9e-5)),
    "20 m": (UTM, north_up(500_000.0, 4_600_000.0, 20.0, 20.0)),
    "60 m": (UTM, north_up(500_000.0, 4_600_000.0, 60.0, 60.0)),
    "10 x 20 m": (UTM, north_up(500_000.0, 4_600_000.0, 10.0, 20.0)),
    "0.01 degrees": ("EPSG:4326", north_up(10.0, 40.0, 0.01, 0.01)),
    "web mercator": ("EPSG:3857", north_up(1e6, 8_399_737.0, 10.0, 10.0)),
    "none": (None, Affine.identity()),
}


@dataclass(frozen=True)
class Stored:
    """How one raster holds its values; the defaults are what the shipped model asks for.

    Attributes:
        modality: ``"optical"`` or ``"sar"``.
        dtype: Of the file.
        factor: Stored number per unit of reflectance or dB.
        linear: SAR is stored as linear sigma0 before the factor.
        power: What the values are raised to before the factor; 0.5 is the amplitude of linear SAR.
        stretch: What becomes 0 and 1 before the factor, clipped; None for no stretch.
        shift: Added to the stored numbers, as 1000 from baseline 04.00 on.
        scale: Scale tag.
        offset: Offset tag.
        nodata: Nodata tag.
        mark: What stands in the absent pixels; None where no pixel is absent.
        mask: ``"internal"``, ``".msk"`` or ``"alpha first"``, ``"alpha middle"``, ``"alpha last"``.
        words: Which descriptions; a key of `WORDS`.
        order: Bands ``"as the model"``, ``"reversed"`` or ``"EuroSAT"``.
        grid: A key of `GRIDS`.
        baseline: Offset that is asked for by option, or None.
        sar_unit: Unit that is asked for by option, or None.
    """

    modality: Literal["optical", "sar"] = "optical"
    dtype: str = "uint16"
    factor: float = 1e4
    linear: bool = False
    power: float = 1.0
    stretch: tuple[float, float] | None = None
    shift: float = 0.0
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    mark: float | None = None
    mask: str = "none"
    words: str = "none"
    order: str = "as the model"
    grid: str = "10 m"
    dn_offset: float | None = None
    sar_unit: str | None = None

    @property
    def has_gap(self) -> bool:
        """Whether some pixels are absent in truth."""
        return self.mark is not None or self.mask != "none"


SAR = Stored("sar", dtype="float32", factor=1.0)


def truth(stored: Stored) -> np.ndarray:
    """Return what the pixels are: reflectance or dB, NaN where absent."""
    pair = example_pair()
    values = pair.optical * 1e-4 if stored.modality == "optical" else pair.sar
    values = values.astype(np.float32)
    if stored.has_gap:
        values[:, ABSENT] = np.nan
    return values


def write(path: Path, stored: Stored) -> Path:
    """Write the pair as stated; returns the path."""
    values = truth(replace(stored, mark=None, mask="none")).astype(np.float64)
    if stored.linear:
        values = 10 ** (values / 10)
    if stored.power != 1.0:
        values = values**stored.power
    if stored.stretch is not None:
        low, high = stored.stretch
        values = ((values - low) / (high - low)).clip(0, 1)
    numbers = values * stored.factor + stored.shift
    if np.dtype(stored.dtype).kind in "iu":
        numbers = np.round(numbers)
    if stored.mark is not None:
        numbers[:, ABSENT] = stored.mark
    limits = np.iinfo(stored.dtype) if np.dtype(stored.dtype).kind in "iu" else None
    if limits is not None:
        numbers = numbers.clip(limits.min, limits.max)
    words = list((WORDS if stored.modality == "optical" else SAR_WORDS)[stored.words])
    order = list(range(len(numbers)))
    if stored.order == "reversed":
        order.reverse()
    elif stored.order == "EuroSAT":
        order = [SENTINEL2_L1C_BANDS.index(band) for band in EUROSAT_BANDS]
    with np.errstate(invalid="ignore"):  # NaN as an integer is any number; it is no valid pixel
        bands = [numbers[i].astype(stored.dtype) for i in order]
    words = [words[i] for i in order]
    meanings = [ColorInterp.undefined] * len(bands)
    if stored.mask.startswith("alpha"):
        place = {"first": 0, "middle": len(bands) // 2, "last": len(bands)}[stored.mask.split()[1]]
        bands.insert(place, np.where(ABSENT, 0, 255).astype(stored.dtype))
        words.insert(place, None)
        meanings.insert(place, ColorInterp.alpha)
    _write(path, np.stack(bands), words, meanings, stored)
    return path


def _write(path: Path, bands: np.ndarray, words: Any, meanings: Any, stored: Stored) -> None:
    crs, transform = GRIDS[stored.grid]
    place = {} if crs is None else {"crs": crs, "transform": transform}
    inside = stored.mask == "internal"
    with (
        without_georeference(),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
        rasterio.open(
            path, "w", driver="GTiff", width=64, height=64, count=len(bands), dtype=bands.dtype,
            **place, nodata=stored.nodata, photometric="minisblack",
        ) as dataset,
    ):  # fmt: skip
        dataset.colorinterp = meanings  # before pixels, or TIFF has no place for it any more
        dataset.write(bands)
        dataset.descriptions = words
        if (stored.scale, stored.offset) != (1.0, 0.0):
            dataset.scales = [stored.scale] * len(bands)
            dataset.offsets = [stored.offset] * len(bands)
        if stored.mask in ("internal", ".msk"):
            dataset.write_mask(np.where(ABSENT, 0, 255).astype(np.uint8))
    if stored.mask == ".msk":
        assert os.path.exists(f"{path}.msk")
