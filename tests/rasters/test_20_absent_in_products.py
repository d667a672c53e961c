"""Absent pixels of rasters that are brought to a grid: by tag, mask, alpha or number alone.

Each raster holds one smooth ground in another way, with a block of absent pixels. Nothing of their
marks may be left, neither as a measurement nor mixed into one where the grid is another.
"""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from support import products as made
from support.rasters import north_up
from support.tiny import tiny_manifest

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.rasters.grid import Grid
from esccs_edge.rasters.products.stacking import stack_products

MANIFEST = tiny_manifest(16)
SIDE = 64
OWN = north_up(made.LEFT, made.TOP, 10, 10)
#: Half a pixel away from the raster's own.
SHIFTED = north_up(made.LEFT + 5, made.TOP - 5, 10, 10)
GAP = np.zeros((SIDE, SIDE), bool)
GAP[20:40, 10:30] = True
LOWEST = -3.4028234663852886e38

REFLECTANCE = ("float32", 1.0, "reflectance")
DN = ("uint16", 1e4, "reflectance")
SIGNED = ("int16", 1e4, "reflectance")
DECIBELS = ("float32", 1.0, "dB")
HUNDREDTHS = ("int16", 100.0, "dB")
LINEAR = ("float32", 1.0, "linear")

WAYS = [
    ("float, 0 untagged", REFLECTANCE, {"mark": 0}),
    ("float, -9999 untagged", REFLECTANCE, {"mark": -9999}),
    ("float, lowest untagged", REFLECTANCE, {"mark": LOWEST}),
    ("float, lowest, rounded tag", REFLECTANCE, {"mark": LOWEST, "nodata": -3.4e38}),
    ("float, 1e20 untagged", REFLECTANCE, {"mark": 1e20}),
    ("float, NaN beside a tag", REFLECTANCE, {"mark": np.nan, "nodata": -9999.0}),
    ("float, infinite", REFLECTANCE, {"mark": np.inf}),
    ("float, alpha", REFLECTANCE, {"mark": 0.3, "alpha": True}),
    ("DN, 0 untagged", DN, {"mark": 0}),
    ("DN, 0 beside another tag", DN, {"mark": 0, "nodata": 65535}),
    ("DN, tag 65535", DN, {"mark": 65535, "nodata": 65535}),
    ("DN, 0 and a scale tag", DN, {"mark": 0, "scale": 1e-4}),
    ("DN, alpha", DN, {"mark": 4000, "alpha": True}),
    ("DN, mask", DN, {"mark": 4000, "mask": True}),
    ("signed DN, -9999 untagged", SIGNED, {"mark": -9999}),
    ("signed DN, -32768 untagged", SIGNED, {"mark": -32768}),
    ("dB, 0 untagged", DECIBELS, {"mark": 0}),
    ("dB, -9999 untagged", DECIBELS, {"mark": -9999}),
    ("dB, largest untagged", DECIBELS, {"mark": -LOWEST}),
    ("dB, 9999 untagged", DECIBELS, {"mark": 9999}),
    ("dB, NaN beside a tag", DECIBELS, {"mark": np.nan, "nodata": -999.0}),
    ("dB, alpha", DECIBELS, {"mark": 5, "alpha": True}),
    ("dB * 100, -32768 untagged", HUNDREDTHS, {"mark": -32768, "scale": 0.01}),
    ("dB * 100, 0 untagged", HUNDREDTHS, {"mark": 0, "scale": 0.01}),
    ("linear, 0 untagged", LINEAR, {"mark": 0}),
    ("linear, -9999 untagged", LINEAR, {"mark": -9999}),
    ("linear, 1e20 untagged", LINEAR, {"mark": 1e20}),
    ("linear, largest, rounded tag", LINEAR, {"mark": -LOWEST, "nodata": 3.4e38}),
    ("linear, mask beside a tag", LINEAR, {"mark": 5, "nodata": -1.0, "mask": True}),
    ("linear, alpha", LINEAR, {"mark": 5, "alpha": True}),
]


def ground(transform, unit):
    """What the pixels are: reflectance or dB."""
    steps = np.arange(SIDE) + 0.5
    east, north = np.meshgrid(transform.c + 10 * steps, transform.f - 10 * steps)
    if unit == "reflectance":
        return np.stack([made.ground_reflectance(east, north, b) for b in SENTINEL2_L1C_BANDS])
    return np.stack([made.backscatter_db(east, north, name) for name in ("VV", "VH")])


def write(path, kind, *, mark, nodata=None, scale=None, alpha=False, mask=False):
    dtype, factor, unit = kind
    values = ground(OWN, unit)
    stored = (10 ** (values / 10) if unit == "linear" else values) * factor
    stored = np.rint(stored) if np.dtype(dtype).kind in "iu" else stored
    stored[:, GAP] = mark
    bands = [*stored, np.where(GAP, 0, 255)] if alpha else [*stored]
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", height=SIDE, width=SIDE, count=len(bands), dtype=dtype,
            crs=made.UTM, transform=OWN, nodata=nodata, photometric="minisblack",
        ) as dataset,
    ):  # fmt: skip
        if alpha:
            dataset.colorinterp = [ColorInterp.undefined] * len(stored) + [ColorInterp.alpha]
        dataset.write(np.stack(bands).astype(dtype))
        dataset.descriptions = (SENTINEL2_L1C_BANDS if unit == "reflectance" else ("VV", "VH")) + (
            (None,) if alpha else ()
        )
        if scale is not None:
            dataset.scales = [scale] * len(bands)
        if mask:
            dataset.write_mask(np.where(GAP, 0, 255).astype(np.uint8))
    return path


@pytest.mark.parametrize("transform", [OWN, SHIFTED], ids=["own grid", "another grid"])
@pytest.mark.parametrize(("kind", "way"), [row[1:] for row in WAYS], ids=[row[0] for row in WAYS])
def test_no_mark_of_absent_pixels_becomes_a_measurement(tmp_path, transform, kind, way):
    unit = "reflectance" if kind[2] == "reflectance" else "dB"
    name = "optical" if unit == "reflectance" else "sar"
    path = write(tmp_path / "a.tif", kind, **way)
    grid = Grid(rasterio.crs.CRS.from_string(made.UTM), transform, SIDE, SIDE)
    made_of = stack_products({name: path}, MANIFEST, tmp_path / "pair", grid=grid)
    with rasterio.open(made_of.paths[name]) as dataset:
        found = dataset.read().astype(np.float64)
    absent = (found == 0) if unit == "reflectance" else np.isnan(found)
    assert absent[:, 21:38, 11:28].all()  # the gap without its edge
    around = GAP.copy()
    around[19:41, 9:31] = True
    around[0], around[-1], around[:, 0], around[:, -1] = (True,) * 4
    assert not absent[:, ~around].any()
    wanted = ground(transform, unit) * (1e4 if unit == "reflectance" else 1)
    error = np.where(absent, 0, np.abs(found - wanted))
    error[:, [0, -1]] = error[:, :, [0, -1]] = 0  # beyond the raster
    assert error.max() < (60 if unit == "reflectance" else 0.3)  # one-sided at the gap


def test_backscatter_that_was_clipped_to_0_db_is_measured(tmp_path):
    path = write(tmp_path / "a.tif", DECIBELS, mark=-12)
    with rasterio.open(path, "r+") as dataset:
        values = dataset.read(1)
        values[::16, ::16] = 0  # walls that face the sensor, in one polarization
        dataset.write(values, 1)
    grid = Grid(rasterio.crs.CRS.from_string(made.UTM), OWN, SIDE, SIDE)
    made_of = stack_products({"sar": path}, MANIFEST, tmp_path / "pair", grid=grid)
    with rasterio.open(made_of.paths["sar"]) as dataset:
        found = dataset.read()
    assert np.isfinite(found).all() and (found[0, ::16, ::16] == 0).all()
