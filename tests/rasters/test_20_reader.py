"""Files -> raw pixels: what is read, and that nothing is resampled silently."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio._env import get_gdal_config
from support.rasters import north_up, random_scene, write_raster
from support.tiny import tiny_manifest
from support.toy_task import toy_manifest

from esccs_edge.contracts.sensors import EUROSAT_BANDS, SENTINEL2_L1C_BANDS, SENTINEL2_L2A_BANDS
from esccs_edge.errors import RasterError
from esccs_edge.rasters.band_files import read_band_files
from esccs_edge.rasters.channels import channel_positions
from esccs_edge.rasters.gdal import SCENE_CACHE_BYTES
from esccs_edge.rasters.reader import open_scene, read_patch, read_sample

MANIFEST = tiny_manifest(16)
OPTICAL, SAR = MANIFEST.modalities["optical"], MANIFEST.modalities["sar"]


@pytest.fixture
def scene():
    return random_scene(MANIFEST, 20, 24)


# What is read


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_geotiff_comes_back_as_stored(tmp_path, dtype):
    pixels = np.random.default_rng(0).integers(1, 200, (13, 9, 7)).astype(dtype)
    read = read_patch(write_raster(tmp_path / "a.tif", pixels), OPTICAL)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)


def test_float64_decibels_keep_their_fraction(tmp_path, scene):
    sar = scene[1].astype(np.float64)
    read = read_patch(write_raster(tmp_path / "a.tif", sar), SAR)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, sar.astype(np.float32))


def test_a_png_is_read_without_its_alpha(tmp_path):
    spec = tiny_manifest().modalities["optical"]
    spec = type(spec)(
        **{**vars(spec), "channels": ("R", "G", "B"), "mean": (0.1,) * 3, "std": (1.0,) * 3}
    )
    pixels = np.random.default_rng(0).integers(1, 255, (4, 8, 8), np.uint8)
    pixels[3] = 255
    pixels[3, 2, 5] = 0
    path = write_raster(tmp_path / "a.png", pixels, driver="PNG", crs=None, transform=None)
    read = read_patch(path, spec)
    assert (read[:, 2, 5] == spec.nodata).all()
    read[:, 2, 5] = pixels[:3, 2, 5]
    np.testing.assert_array_equal(read, pixels[:3])


@pytest.mark.parametrize(
    "order", [np.asfortranarray, lambda a: a.astype(a.dtype.newbyteorder(">"))]
)
def test_an_npy_comes_back_native_and_contiguous(tmp_path, scene, order):
    np.save(tmp_path / "a.npy", order(scene[0]))
    read = read_patch(tmp_path / "a.npy", OPTICAL)
    assert read.dtype == np.uint16 and read.dtype.isnative and read.flags.c_contiguous
    np.testing.assert_array_equal(read, scene[0])


def test_an_absent_modality_may_be_named_that_the_model_does_not_read(tmp_path):
    radar = toy_manifest().modalities
    path = write_raster(tmp_path / "r.tif", np.full((1, 16, 16), -14, np.float32))
    read = read_sample({"optical": None, "radar": path}, radar)
    assert list(read) == ["radar"] and (read["radar"] == -14).all()


@pytest.mark.fault(8, 20)
def test_band_descriptions_decide_the_order(tmp_path, scene):
    order = [SENTINEL2_L1C_BANDS.index(band) for band in EUROSAT_BANDS]
    path = write_raster(tmp_path / "a.tif", scene[0][order], descriptions=EUROSAT_BANDS)
    np.testing.assert_array_equal(read_patch(path, OPTICAL), scene[0])


@given(st.permutations(SENTINEL2_L1C_BANDS), st.lists(st.sampled_from(["QA60", "SCL", None])))
def test_described_bands_are_found_wherever_they_stand(bands, others):
    positions = channel_positions([*others, *bands], OPTICAL, "file")
    assert [[*others, *bands][i] for i in positions] == list(OPTICAL.channels)


@pytest.mark.parametrize(
    "described",
    [
        ("Sigma0_VH_db", "Sigma0_VV_db"),
        ("vh", "vv"),
        ("VH, backscatter", "VV, backscatter"),
    ],
)
def test_polarizations_named_by_other_tools_are_recognized(described):
    assert channel_positions(described, SAR, "file") == [1, 0]


@pytest.mark.parametrize("described", [(None, None), ("Band 1", "Band 2"), ("", "intensity")])
def test_without_names_the_order_counts(described):
    assert channel_positions(described, SAR, "file") == [0, 1]


@pytest.mark.parametrize(
    ("described", "found"),
    [
        (("VV", "HH"), "lacks VH"),
        (("VV", None), "lacks VH"),
        (("VV", "VV", "VH"), "repeats VV"),
    ],  # fmt: skip
)
def test_names_that_do_not_cover_the_channels_are_refused(described, found):
    with pytest.raises(RasterError, match=found):
        channel_positions(described, SAR, "file")


# Absent pixels


@pytest.mark.fault(40)
def test_a_foreign_nodata_value_makes_the_whole_pixel_absent(tmp_path, scene):
    optical, sar = scene
    optical[4, 3, 2], sar[1, 5, 6] = 65535, -99
    read = read_patch(write_raster(tmp_path / "o.tif", optical, nodata=65535), OPTICAL)
    assert (read[:, 3, 2] == 0).all() and (read == 0).all(axis=0).sum() == 1
    read = read_patch(write_raster(tmp_path / "s.tif", sar, nodata=-99), SAR)
    assert np.isnan(read[:, 5, 6]).all() and np.isnan(read).any(axis=0).sum() == 1


@pytest.mark.fault(40)
def test_the_models_own_nodata_value_in_one_band_is_a_measurement(tmp_path, scene):
    optical = scene[0]
    optical[10, 3, 2] = 0  # a clear sky in the cirrus band
    read = read_patch(write_raster(tmp_path / "o.tif", optical, nodata=0), OPTICAL)
    np.testing.assert_array_equal(read, optical)


@pytest.mark.fault(43)
def test_an_internal_mask_is_honored(tmp_path, scene):
    path = write_raster(tmp_path / "s.tif", scene[1])
    mask = np.full(scene[1].shape[1:], 255, np.uint8)
    mask[2:4, 1] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    np.testing.assert_array_equal(np.isnan(read_patch(path, SAR)).all(axis=0), mask == 0)


@pytest.mark.fault(43)
def test_scale_and_offset_tags_give_physical_values(tmp_path, scene):
    optical = scene[0]
    optical[:, 3, 2] = 0
    tags = {"scales": (1e-4,) * 13, "offsets": (-0.1,) * 13}
    read = read_patch(write_raster(tmp_path / "o.tif", optical, tags=tags), OPTICAL)
    assert read.dtype == np.float32 and np.isnan(read[:, 3, 2]).all()
    expected = (optical * 1e-4 - 0.1).astype(np.float32)
    np.testing.assert_array_equal(np.delete(read.reshape(13, -1), 3 * 24 + 2, 1),
                                  np.delete(expected.reshape(13, -1), 3 * 24 + 2, 1))  # fmt: skip


def test_masked_integers_need_a_nodata_value_in_the_model(tmp_path, scene):
    optical = scene[0]
    optical[0, 0, 0] = 65535
    path = write_raster(tmp_path / "o.tif", optical, nodata=65535)
    spec = replace(OPTICAL, nodata=None)
    with pytest.raises(RasterError, match="declares no nodata value"):
        read_patch(path, spec)


# Pairs and windows


def test_an_absent_modality_stays_none(tmp_path, scene):
    sar = write_raster(tmp_path / "s.tif", scene[1])
    optical, read = read_sample({"sar": sar}, MANIFEST.modalities).values()
    assert optical is None and read.shape == scene[1].shape
    with open_scene({"optical": None, "sar": sar}, MANIFEST.modalities) as reader:
        assert reader.read(0, 0, 16, 16)["optical"] is None


def test_a_window_beyond_the_edge_is_padded_with_absent_pixels(tmp_path, scene):
    optical = write_raster(tmp_path / "o.tif", scene[0])
    sar = write_raster(tmp_path / "s.tif", scene[1])
    with open_scene({"optical": optical, "sar": sar}, MANIFEST.modalities) as reader:
        pixels = reader.read(12, 20, 16, 16)
    np.testing.assert_array_equal(pixels["optical"][:, :8, :4], scene[0][:, 12:, 20:])
    np.testing.assert_array_equal(pixels["sar"][:, :8, :4], scene[1][:, 12:, 20:])
    outside = np.ones((16, 16), bool)
    outside[:8, :4] = False
    assert (pixels["optical"][:, outside] == 0).all()
    assert np.isnan(pixels["sar"][:, outside]).all()


# One file per band


def band_files(folder, bands, *, absent=()):
    """A simulated product: one file per band at 10, 20 or 60 m, all of one extent."""
    files = {}
    for i, band in enumerate(bands):
        pixel = 60 if band in ("B01", "B09") else 10 if band in ("B02", "B03", "B04", "B08") else 20
        size = 120 // pixel
        pixels = np.full((1, size, size), 100 * (i + 1), np.uint16)
        for row, column in absent:
            pixels[0, row * size // 12, column * size // 12] = 0
        transform = north_up(5e5, 4e6, pixel, pixel)
        files[band] = write_raster(folder / f"{band}.tif", pixels, transform=transform)
    return files


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_bands_of_three_resolutions_meet_on_the_finest_grid(tmp_path, resampling):
    patch = read_band_files(
        band_files(tmp_path, SENTINEL2_L1C_BANDS), OPTICAL, resampling=resampling
    )
    assert patch.shape == (13, 12, 12) and patch.dtype == np.uint16
    assert [int(np.unique(band)[0]) for band in patch] == [100 * (i + 1) for i in range(13)]


def test_a_level_2a_product_needs_an_explicit_fill_for_b10(tmp_path):
    files = band_files(tmp_path, SENTINEL2_L2A_BANDS)
    with pytest.raises(RasterError, match="no file for B10"):
        read_band_files(files, OPTICAL)
    patch = read_band_files(files, OPTICAL, fill={"B10": 15})
    assert (patch[10] == 15).all() and (patch[11] == 1100).all()


def test_a_fill_does_not_make_an_absent_pixel_look_present(tmp_path):
    files = band_files(tmp_path, SENTINEL2_L2A_BANDS, absent=[(0, 0)])
    patch = read_band_files(files, OPTICAL, fill={"B10": 15}, resampling="nearest")
    assert (patch[:, 0, 0] == 0).all() and patch[10, 11, 11] == 15


def test_bands_of_another_extent_are_refused(tmp_path):
    files = band_files(tmp_path, SENTINEL2_L1C_BANDS)
    moved = north_up(5e5 + 60, 4e6, 60, 60)
    files["B01"] = write_raster(
        tmp_path / "moved.tif", np.ones((1, 2, 2), np.uint16), transform=moved
    )
    with pytest.raises(RasterError, match="moved.tif spans"):
        read_band_files(files, OPTICAL)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tags", [{}, {"scales": (0.5, 0.5)}])
def test_a_signaling_nan_is_an_absent_pixel_and_warns_of_nothing(tmp_path, scene, dtype, tags):
    pixels = scene[1].astype(dtype)
    bits = pixels.view(np.uint32 if dtype is np.float32 else np.uint64)
    bits[0, 1, 2] = 0x7F800001 if dtype is np.float32 else 0x7FF0000000000001
    path = write_raster(tmp_path / "a.tif", pixels, tags=tags)
    assert np.isnan(read_patch(path, SAR)[0, 1, 2])


def test_a_scene_bounds_what_gdal_keeps(tmp_path, monkeypatch, scene):
    """Left to itself GDAL keeps a twentieth of the machine's memory, however large that is."""
    optical, sar = scene
    paths = {
        "optical": write_raster(tmp_path / "o.tif", optical),
        "sar": write_raster(tmp_path / "s.tif", sar),
    }
    before = get_gdal_config("GDAL_CACHEMAX")
    with open_scene(paths, MANIFEST.modalities):
        assert get_gdal_config("GDAL_CACHEMAX") == SCENE_CACHE_BYTES
    assert get_gdal_config("GDAL_CACHEMAX") == before
    monkeypatch.setenv("GDAL_CACHEMAX", "100")
    with open_scene(paths, MANIFEST.modalities):
        assert get_gdal_config("GDAL_CACHEMAX") == before
