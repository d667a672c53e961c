"""Products as they are downloaded -> pairs on one grid: values, places, and what is refused.

The trees and metadata are those of real products, the images simulated from formulas that the tests
know (`support.products`), so that every stacked pixel has a right value.
"""

from __future__ import annotations

import shutil
import zipfile

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from support import products as made
from support.rasters import north_up, write_raster
from support.tiny import tiny_manifest

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS, SENTINEL2_L2A_BANDS
from esccs_edge.errors import RasterError
from esccs_edge.rasters.channels import narrowed
from esccs_edge.rasters.grid import Grid
from esccs_edge.rasters.products.container import Container
from esccs_edge.rasters.products.metadata import Metadata
from esccs_edge.rasters.products.prepared import as_rasters
from esccs_edge.rasters.products.product import Stating
from esccs_edge.rasters.products.stacking import stack_products
from esccs_edge.rasters.reader import open_scene

MANIFEST = tiny_manifest(16)
SIDE = 192


@pytest.fixture(scope="module")
def sentinel2(tmp_path_factory):
    return made.write_sentinel2(tmp_path_factory.mktemp("s2"))


@pytest.fixture(scope="module")
def sentinel1(tmp_path_factory):
    return made.write_sentinel1(tmp_path_factory.mktemp("s1"))


def stacked(out, optical=None, sar=None, manifest=MANIFEST, **options):
    return stack_products({"optical": optical, "sar": sar}, manifest, out, **options)


def pixels(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def l2a_manifest():
    """A model of L2A bands, as one that was trained on BigEarthNet."""
    optical = narrowed(MANIFEST.modalities["optical"], SENTINEL2_L2A_BANDS)
    optical = type(optical)(**{**_fields(optical), "level": "L1C or L2A"})
    return MANIFEST.evolve(modalities={**MANIFEST.modalities, "optical": optical})


def _fields(spec):
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def assert_ground(optical, *, border=6):
    """Bands are those of the ground formula: 10 m exactly, coarser ones as well as lines go."""
    east, north = made.centers(SIDE, 10)
    for band, found in zip(SENTINEL2_L1C_BANDS, optical.astype(float), strict=True):
        error = np.abs(found - 10_000 * made.ground_reflectance(east, north, band))
        limit = {10: 0.51, 20: 3.0, 60: 15.0}[made.PIXEL_M[band]]
        assert error[border:-border, border:-border].max() < limit, band


def assert_backscatter(sar, *, limit_db=0.2):
    east, north = made.centers(SIDE, 10)
    for polarization, found in zip(("VV", "VH"), sar, strict=True):
        error = np.abs(found - made.backscatter_db(east, north, polarization))
        assert np.nanmax(error) < limit_db, polarization


# Sentinel-2


@pytest.mark.fault(17, 49)
@pytest.mark.parametrize("baseline, offset", [("05.09", -1000), ("02.04", None), ("04.00", -1000)])
def test_the_offset_of_the_metadata_is_applied_once(tmp_path, baseline, offset):
    safe = made.write_sentinel2(tmp_path, baseline=baseline, offset=offset)
    result = stacked(tmp_path / "pair", safe)
    assert_ground(pixels(result.paths["optical"]))
    product = result.products["optical"]
    assert (product.level, product.baseline, product.acquired.year) == ("L1C", baseline, 2023)


@pytest.mark.parametrize("form", ["folder", "zip", "zip named otherwise", "metadata file"])
def test_every_form_of_a_download_gives_the_same_raster(tmp_path, sentinel2, form):
    path = sentinel2
    if form.startswith("zip"):
        path = made.zipped(sentinel2)
    if form == "zip named otherwise":
        path = shutil.copy(path, tmp_path / "download")
    if form == "metadata file":
        path = sentinel2 / "MTD_MSIL1C.xml"
    result = stacked(tmp_path / "pair", path)
    assert_ground(pixels(result.paths["optical"]))


def test_a_pixel_outside_the_swath_is_absent_in_all_bands(tmp_path):
    safe = made.write_sentinel2(tmp_path, absent_columns=4)
    optical = pixels(stacked(tmp_path / "pair", safe).paths["optical"])
    assert (optical[:, :, :24] == 0).all() and (optical[:, :, 24:] > 0).all()


def test_the_grid_is_that_of_the_ten_meter_bands(tmp_path, sentinel2):
    grid = stacked(tmp_path / "pair", sentinel2).grid
    assert (grid.height, grid.width, grid.crs.to_string()) == (SIDE, SIDE, made.UTM)
    assert tuple(grid.transform)[:6] == (10, 0, made.LEFT, 0, -10, made.TOP)


def test_l2a_is_refused_by_a_model_of_l1c_with_what_to_do(tmp_path):
    safe = made.write_sentinel2(tmp_path, level="L2A", baseline="02.08", offset=None)
    with pytest.raises(RasterError, match="L2A product, expected L1C") as refusal:
        stacked(tmp_path / "pair", safe)
    assert "MSIL1C" in refusal.value.hint and not (tmp_path / "pair").exists()


def test_a_model_of_l2a_reads_it_at_the_finest_size_of_each_band(tmp_path):
    safe = made.write_sentinel2(tmp_path, level="L2A", baseline="05.09")
    optical = pixels(stacked(tmp_path / "pair", safe, manifest=l2a_manifest()).paths["optical"])
    east, north = made.centers(SIDE, 10)
    found = optical[SENTINEL2_L2A_BANDS.index("B11")].astype(float)
    error = np.abs(found - 10_000 * made.ground_reflectance(east, north, "B11"))
    assert error[6:-6, 6:-6].max() < 3  # of the 60 m file it is 15


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda safe: next(safe.rglob("*_B10.jp2")).unlink(), "lacks B10"),
        (lambda safe: (safe / "MTD_MSIL1C.xml").write_text("<a"), "not valid XML"),
        (lambda safe: _edit(safe, "<?xml", '<!DOCTYPE a [<!ENTITY b "c">]><?xml'), "document type"),
        (lambda safe: _edit(safe, "RADIO_ADD_OFFSET", "OTHER"), "lists no RADIO_ADD_OFFSET"),
        (lambda safe: _edit(safe, ">10000<", ">many<"), "expected a number"),
        (lambda safe: _edit(safe, "Level-1C<", "Level-1B<"), "expected Level-1C or Level-2A"),
        (
            lambda safe: next(safe.rglob("*_B04.jp2")).write_bytes(b"<VRTDataset/>"),
            "list of other files",
        ),
        (lambda safe: _second_granule(safe), "2 granules"),
    ],
)
def test_a_damaged_product_is_refused_and_nothing_is_written(tmp_path, spoil, message):
    safe = made.write_sentinel2(tmp_path)
    spoil(safe)
    with pytest.raises(RasterError, match=message):
        stacked(tmp_path / "pair", safe)
    assert not list(tmp_path.glob("pair/*"))


def _edit(safe, old, new):
    path = safe / "MTD_MSIL1C.xml"
    path.write_text(path.read_text().replace(old, new))


def _second_granule(safe):
    granule = next((safe / "GRANULE").iterdir())
    shutil.copytree(granule, granule.with_name("L1C_T34UCE_A033753_20230823T095553"))


# Sentinel-1


def test_grd_is_calibrated_and_placed_by_its_control_points(tmp_path, sentinel2, sentinel1):
    result = stacked(tmp_path / "pair", sentinel2, made.zipped(sentinel1))
    assert_backscatter(pixels(result.paths["sar"]))
    assert result.products["sar"].level == "GRD"
    assert result.days_apart == pytest.approx(1.277, abs=1e-3)


def test_a_measurement_file_stands_for_its_product(tmp_path, sentinel2, sentinel1):
    file = next(sentinel1.glob("measurement/*-vh-*.tiff"))
    assert_backscatter(pixels(stacked(tmp_path / "pair", sentinel2, file).paths["sar"]))


def test_pixels_without_an_echo_are_absent(tmp_path, sentinel2):
    safe = made.write_sentinel1(tmp_path, absent_rows=120)
    sar = pixels(stacked(tmp_path / "pair", sentinel2, safe).paths["sar"])
    assert 0.1 < np.isnan(sar).mean() < 0.9
    assert_backscatter(sar, limit_db=0.4)  # the last valid row stands alone in its neighborhood


def test_single_polarization_and_complex_products_are_refused(tmp_path, sentinel2):
    alone = made.write_sentinel1(tmp_path / "a", polarizations=("VV",))
    with pytest.raises(RasterError, match="lacks VH"):
        stacked(tmp_path / "pair", sentinel2, alone)
    with pytest.raises(RasterError, match="type SLC, expected GRD"):
        stacked(tmp_path / "pair", sentinel2, made.write_sentinel1(tmp_path / "b", kind="SLC"))


def test_products_of_two_places_are_refused_before_any_work(tmp_path, sentinel2):
    far = made.write_sentinel1(tmp_path, shift_m=60_000)
    with pytest.raises(RasterError, match="beside the grid"):
        stacked(tmp_path / "pair", sentinel2, far)


def test_swapped_products_are_refused(tmp_path, sentinel2, sentinel1):
    with pytest.raises(RasterError, match="is a Sentinel-1 product, expected optical") as refusal:
        stacked(tmp_path / "pair", sentinel1, sentinel2)
    assert "swapped" in refusal.value.hint


def test_a_measurement_without_its_calibration_is_refused(tmp_path, sentinel2, sentinel1):
    bands = tmp_path / "bands"
    bands.mkdir()
    for file in sentinel1.glob("measurement/*.tiff"):
        shutil.copy(file, bands)
    with pytest.raises(RasterError, match="without a calibration") as refusal:
        stacked(tmp_path / "pair", sentinel2, bands)
    assert ".SAFE" in refusal.value.hint
    shutil.copytree(sentinel1, tmp_path / "part.SAFE")
    next((tmp_path / "part.SAFE").rglob("calibration-*-vv-*.xml")).unlink()
    with pytest.raises(RasterError, match="has no annotation/calibration"):
        stacked(tmp_path / "pair", sentinel2, tmp_path / "part.SAFE")


# Rasters without a product around them

HALF = north_up(made.LEFT - 203, made.TOP + 111, 20, 20)


def rtc(folder, stored, *, names=("VV", "VH"), tags=None, **profile):
    """Backscatter on a 20 m grid that is not that of the optical image."""
    east = HALF.c + (np.arange(130) + 0.5)[None] * 20
    north = HALF.f - (np.arange(130) + 0.5)[:, None] * 20
    decibels = np.stack([made.backscatter_db(east, north, name) for name in ("VV", "VH")])
    return write_raster(
        folder / "rtc.tif", stored(decibels), descriptions=names, tags=tags, crs=made.UTM,
        transform=HALF, **profile,
    )  # fmt: skip


@pytest.mark.parametrize(
    "stored, tags, profile",
    [
        (lambda db: db.astype(np.float32), {"units": ("dB", "dB")}, {}),
        (lambda db: db.astype(np.float32), None, {}),
        (lambda db: (10 ** (db / 10)).astype(np.float32), {"units": ("linear", "linear")}, {}),
        (lambda db: (10 ** (db / 10)).astype(np.float32), None, {"nodata": 0}),
        (lambda db: np.rint(db * 100).astype("i2"), {"scales": (0.01,) * 2}, {"nodata": -32768}),
    ],
)  # fmt: skip
def test_backscatter_of_any_unit_becomes_decibels_on_the_grid(
    tmp_path, sentinel2, stored, tags, profile
):
    path = rtc(tmp_path, stored, tags=tags, **profile)
    result = stacked(tmp_path / "pair", sentinel2, path)
    assert_backscatter(pixels(result.paths["sar"]))
    silent = "units" not in (tags or {})
    assert any("no tag" in note for note in result.products["sar"].notes) == silent


def test_absent_backscatter_of_any_mark_stays_absent(tmp_path, sentinel2):
    def marked(db):
        db = db.astype(np.float32)
        db[:, 40:60, 40:60] = 0  # a nodata value that would be a bright echo
        return db

    path = rtc(tmp_path, marked, tags={"units": ("dB", "dB")}, nodata=0)
    sar = pixels(stacked(tmp_path / "pair", sentinel2, path).paths["sar"])
    assert 0.02 < np.isnan(sar[0]).mean() < 0.06
    assert_backscatter(sar)


def test_a_mask_beside_the_backscatter_is_kept(tmp_path, sentinel2):
    path = rtc(tmp_path, lambda db: db.astype(np.float32), tags={"units": ("dB", "dB")})
    with rasterio.open(path, "r+") as dataset:
        mask = np.full((130, 130), 255, np.uint8)
        mask[40:60, 40:60] = 0
        dataset.write_mask(mask)
    sar = pixels(stacked(tmp_path / "pair", sentinel2, path).paths["sar"])
    assert 0.02 < np.isnan(sar[0]).mean() < 0.06


@pytest.mark.parametrize(
    "stored, tags, message",
    [
        (lambda db: np.rint(1e3 * 10 ** (db / 20)).astype(np.uint16), None, "without a calibr"),
        (lambda db: db.astype(np.float32), {"units": ("linear",) * 2}, "cannot be linear"),
        (lambda db: (10 ** (db / 10)).astype(np.float32), {"units": ("dB",) * 2}, "cannot be dB"),
        (lambda db: (10 ** (db / 20)).astype(np.float32), {"units": ("amplitude",) * 2}, "ampl"),
    ],
)
def test_backscatter_that_is_not_what_it_says_is_refused(
    tmp_path, sentinel2, stored, tags, message
):
    with pytest.raises(RasterError, match=message):
        stacked(tmp_path / "pair", sentinel2, rtc(tmp_path, stored, tags=tags))


def band_folder(folder, *, stamp="20200823T095559", offset=0, bands=SENTINEL2_L1C_BANDS):
    folder.mkdir()
    for band in bands:
        pixel = made.PIXEL_M[band]
        reflectance = made.ground_reflectance(*made.centers(1920 // pixel, pixel), band)
        dn = np.rint(reflectance * 10_000 + offset).astype(np.uint16)
        made.write_jp2(folder / f"T34UCF_{stamp}_{band}.jp2", dn, pixel)
    return folder


def test_a_folder_of_single_band_files_is_read_like_a_product(tmp_path):
    result = stacked(tmp_path / "pair", band_folder(tmp_path / "IMG_DATA"))
    assert_ground(pixels(result.paths["optical"]))
    assert "offset of 0 are assumed" in " ".join(result.products["optical"].notes)


def test_recent_bands_without_metadata_need_their_baseline(tmp_path):
    folder = band_folder(tmp_path / "bands", stamp="20230823T095559", offset=1000)
    with pytest.raises(RasterError, match="offset of its digital numbers is not known") as refusal:
        stacked(tmp_path / "pair", folder)
    assert "--baseline" in refusal.value.hint
    result = stacked(tmp_path / "pair", folder, stating=Stating(dn_offset=-1000))
    assert_ground(pixels(result.paths["optical"]))


@pytest.mark.parametrize(
    "folder, stamp",
    [("bands", "2023-08-23"), ("bands", "2023_08_23T095559"), ("S2_20230823", "L1C"),
     ("2023.08.23", "L1C")],
)  # fmt: skip
def test_a_recent_date_is_known_however_it_is_written(tmp_path, folder, stamp):
    path = band_folder(tmp_path / folder, stamp=stamp, offset=1000)
    with pytest.raises(RasterError, match="is of 2023-08-23 and has no metadata"):
        stacked(tmp_path / "pair", path)


@pytest.mark.parametrize(
    "letter, of, unit", [("p", 10, "linear"), ("d", 0, "dB"), ("a", 20, "amplitude")]
)
def test_names_of_hyp3_tell_the_unit(tmp_path, sentinel2, letter, of, unit):
    folder = tmp_path / "rtc"
    folder.mkdir()
    for name in ("VV", "VH"):
        east = HALF.c + (np.arange(130) + 0.5)[None] * 20
        north = HALF.f - (np.arange(130) + 0.5)[:, None] * 20
        decibels = made.backscatter_db(east, north, name)
        stored = 10 ** (decibels / of) if of else decibels
        write_raster(
            folder / f"S1A_IW_20230824T163512_DVP_RTC20_G_g{letter}unem_F8E2_{name}.tif",
            stored[None].astype(np.float32), crs=made.UTM, transform=HALF,
        )  # fmt: skip
    if unit == "amplitude":
        with pytest.raises(RasterError, match="holds SAR amplitude"):
            stacked(tmp_path / "pair", sentinel2, folder)
        return
    result = stacked(tmp_path / "pair", sentinel2, folder)
    assert_backscatter(pixels(result.paths["sar"]))
    assert not any("no tag says the unit" in note for note in result.products["sar"].notes)


@pytest.mark.fault(49)
def test_a_baseline_against_the_metadata_is_refused(tmp_path, sentinel2):
    with pytest.raises(RasterError, match="offset of -1000 in B01 by its metadata, and 0 was"):
        stacked(tmp_path / "pair", sentinel2, stating=Stating(dn_offset=0))


def test_bands_without_b10_look_like_l2a(tmp_path):
    folder = band_folder(tmp_path / "bands", bands=SENTINEL2_L2A_BANDS)
    with pytest.raises(RasterError, match="lacks B10") as refusal:
        stacked(tmp_path / "pair", folder)
    assert "MSIL1C" in refusal.value.hint


def test_two_dates_in_one_folder_are_refused(tmp_path):
    folder = band_folder(tmp_path / "bands")
    shutil.copy(
        folder / "T34UCF_20200823T095559_B04.jp2", folder / "T34UCF_20200901T095559_B04.jp2"
    )
    with pytest.raises(RasterError, match="two files of B04"):
        stacked(tmp_path / "pair", folder)


def test_bands_of_two_dates_are_no_image(tmp_path):
    folder = band_folder(tmp_path / "bands")
    file = folder / "T34UCF_20200823T095559_B04.jp2"
    file.rename(folder / "T34UCF_20200901T095559_B04.jp2")
    with pytest.raises(RasterError, match="2020-08-23 and 2020-09-01, expected one date"):
        stacked(tmp_path / "pair", folder)


def edited(tmp_path, safe, pattern, text):
    copy = tmp_path / "edited" / safe.name
    shutil.copytree(safe, copy)
    metadata = copy / "MTD_MSIL1C.xml"
    content = metadata.read_text()
    assert pattern in content
    metadata.write_text(content.replace(pattern, text))
    return copy


@pytest.mark.parametrize(
    "pattern, text, message",
    [
        ('<RADIO_ADD_OFFSET band_id="7">-1000</RADIO_ADD_OFFSET>', "", "none of B08"),
        ('band_id="7">-1000<', 'band_id="7">1000<', "an offset of 1000"),
        (">10000<", ">1<", "QUANTIFICATION_VALUE 1.0, expected 10000"),
        (">10000<", ">nan<", "QUANTIFICATION_VALUE nan"),
    ],
)
def test_metadata_that_say_half_of_it_are_refused(tmp_path, sentinel2, pattern, text, message):
    safe = edited(tmp_path, sentinel2, pattern, text)
    with pytest.raises(RasterError, match=message) as refusal:
        stacked(tmp_path / "pair", safe)
    assert "download it again" in refusal.value.hint


def test_a_product_without_one_image_is_not_complete(tmp_path, sentinel2):
    safe = edited(tmp_path, sentinel2, "05.09", "05.09")
    next(safe.rglob("*_B09.jp2")).unlink()
    with pytest.raises(RasterError, match="lacks B09") as refusal:
        stacked(tmp_path / "pair", safe)
    assert "download it again" in refusal.value.hint


@pytest.mark.parametrize(
    "head, words, hint",
    [
        (b"\x1f\x8b\x08\0", "compressed by gzip", "Unpack"),
        (b"\x89HDF\r\n", "HDF5", "GeoTIFF"),
        (b"<?xml version='1.0'?>", "XML", "folder of the product"),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path, sentinel1, head, words, hint):
    (tmp_path / "a.bin").write_bytes(head * 8)
    with pytest.raises(RasterError, match=words) as refusal:
        stacked(tmp_path / "pair", tmp_path / "a.bin", sentinel1)
    assert hint in refusal.value.hint


def test_masks_of_a_granule_and_files_of_macos_are_no_bands(tmp_path):
    (tmp_path / "GRANULE").mkdir()
    folder = band_folder(tmp_path / "GRANULE" / "IMG_DATA").parent
    mask = np.zeros((SIDE, SIDE), np.uint16)
    made.write_jp2(folder / "QI_DATA" / "MSK_QUALIT_B02.jp2", mask, 10)
    (folder / "IMG_DATA" / "._T34UCF_20200823T095559_B02.jp2").write_bytes(b"\0\5\x16\7")
    assert_ground(pixels(stacked(tmp_path / "pair", folder).paths["optical"]))


def test_files_of_macos_in_an_archive_are_no_product(tmp_path, sentinel2):
    archive = made.zipped(sentinel2)
    copy = tmp_path / "s2.zip"
    shutil.copy(archive, copy)
    with zipfile.ZipFile(copy, "a") as added:
        for name in added.namelist():
            head, _, tail = name.rpartition("/")
            added.writestr(f"{head}/._{tail}", b"\0\5\x16\7")
            added.writestr(f"__MACOSX/{head}/._{tail}", b"\0\5\x16\7")
    assert_ground(pixels(stacked(tmp_path / "pair", copy).paths["optical"]))


def test_folders_that_were_swapped_are_told(tmp_path):
    (tmp_path / "s1").mkdir()
    for name in ("VV", "VH"):
        write_raster(tmp_path / "s1" / f"rtc_{name}.tif", np.ones((1, 8, 8), np.float32))
    with pytest.raises(RasterError, match="holds no raster") as refusal:
        stacked(tmp_path / "pair", tmp_path / "s1")
    assert "swapped" in refusal.value.hint


def tagged_bands(folder, tags, *, added=1000, dtype=np.uint16, factor=10_000):
    folder.mkdir()
    for band in SENTINEL2_L1C_BANDS:
        values = made.ground_reflectance(*made.centers(SIDE, 10), band) * factor + added
        stored = np.rint(values) if np.dtype(dtype).kind in "iu" else values
        write_raster(
            folder / f"scene_20230823_{band}.tif", stored[None].astype(dtype), crs=made.UTM,
            transform=north_up(made.LEFT, made.TOP, 10, 10), tags=tags,
        )  # fmt: skip
    return folder


def test_reflectance_by_tags_needs_no_metadata(tmp_path):
    folder = tagged_bands(tmp_path / "bands", {"scales": (1e-4,), "offsets": (-0.1,)})
    assert_ground(pixels(stacked(tmp_path / "pair", folder).paths["optical"]))


@pytest.mark.parametrize("dn_offset", [-1000, 0])
def test_a_baseline_completes_a_scale_tag_without_offset(tmp_path, dn_offset):
    folder = tagged_bands(tmp_path / "bands", {"scales": (1e-4,)}, added=-dn_offset)
    with pytest.raises(RasterError, match="offset of its digital numbers is not known"):
        stacked(tmp_path / "pair", folder)
    result = stacked(tmp_path / "pair", folder, stating=Stating(dn_offset=dn_offset))
    assert_ground(pixels(result.paths["optical"]))


@pytest.mark.parametrize(
    "tags, dtype, dn_offset, message",
    [
        ({"scales": (1e-4,), "offsets": (-0.1,)}, np.uint16, -1000, "has offset tag -0.1"),
        ({"offsets": (-1000,)}, np.uint16, -1000, "has offset tag -1000"),
        ({"scales": (1e-4,), "offsets": (-1000,)}, np.uint16, None, "about -999"),
        ({"scales": (0.01,)}, np.uint16, None, "by scale 0.01"),
        ({}, np.float32, -1000, "belongs to digital numbers"),
    ],
)
def test_tags_and_baselines_that_cannot_be_are_refused(tmp_path, tags, dtype, dn_offset, message):
    factor, added = (1, 0) if dtype is np.float32 else (10_000, 1000)
    folder = tagged_bands(tmp_path / "bands", tags, dtype=dtype, factor=factor, added=added)
    with pytest.raises(RasterError, match=message) as refusal:
        stacked(tmp_path / "pair", folder, stating=Stating(dn_offset=dn_offset))
    assert refusal.value.hint


# Grids


def test_an_image_in_degrees_comes_onto_ten_meters_of_utm(tmp_path):
    dn = np.full((13, 200, 200), 900, np.uint16)
    step = 1e-4
    path = write_raster(
        tmp_path / "degrees.tif", dn, crs="EPSG:4326",
        transform=north_up(21.0, 52.0, step, step), descriptions=SENTINEL2_L1C_BANDS,
    )  # fmt: skip
    result = stacked(tmp_path / "pair", path)
    assert result.grid.crs.to_string() == "EPSG:32634" and result.grid.transform.a == 10
    assert 135 < result.grid.width < 142 and 220 < result.grid.height < 226
    optical = pixels(result.paths["optical"])
    assert set(np.unique(optical)) == {0, 900} and result.valid["optical"] > 0.95


@pytest.mark.parametrize("flipped", ["rows", "columns", "both"])
def test_an_image_of_turned_rows_or_columns_comes_onto_a_grid(tmp_path, flipped):
    steps = np.array([ground(band) for band in SENTINEL2_L1C_BANDS])
    transform = north_up(made.LEFT, made.TOP, 10, 10)
    if flipped in ("rows", "both"):
        steps = steps[:, ::-1]
        transform = transform @ Affine(1, 0, 0, 0, -1, SIDE)
    if flipped in ("columns", "both"):
        steps = steps[:, :, ::-1]
        transform = transform @ Affine(-1, 0, SIDE, 0, 1, 0)
    path = write_raster(
        tmp_path / "a.tif", np.rint(10_000 * steps).astype(np.uint16), crs=made.UTM,
        transform=transform, descriptions=SENTINEL2_L1C_BANDS,
    )  # fmt: skip
    result = stacked(tmp_path / "pair", path)
    grid, optical = result.grid, pixels(result.paths["optical"])[:, 2:-2, 2:-2]
    east = grid.transform.c + 10 * (np.arange(grid.width) + 0.5)[2:-2]
    north = grid.transform.f - 10 * (np.arange(grid.height) + 0.5)[2:-2]
    wanted = [10_000 * made.ground_reflectance(*np.meshgrid(east, north), band)
              for band in SENTINEL2_L1C_BANDS]  # fmt: skip
    assert np.abs(optical - np.array(wanted)).max() < 5


def ground(band):
    return made.ground_reflectance(*made.centers(SIDE, 10), band)


@pytest.mark.parametrize("pixel, words", [(30, "pixels of 30 m, coarser than the 10 m"), (10, "")])
def test_coarse_pixels_are_noted(tmp_path, sentinel2, pixel, words):
    path = rtc_of(tmp_path, pixel)
    notes = " ".join(stacked(tmp_path / "pair", sentinel2, path).products["sar"].notes)
    assert words in notes and ("coarser" in notes) == bool(words)


def test_pixels_without_the_detail_that_the_model_reads_are_refused(tmp_path, sentinel2):
    with pytest.raises(RasterError, match="pixels of 100 m on the ground, expected 10 m"):
        stacked(tmp_path / "pair", sentinel2, rtc_of(tmp_path, 100))


def rtc_of(folder, pixel):
    """Backscatter of these pixels, tagged as dB, over the optical image."""
    count = 2400 // pixel
    noise = np.random.default_rng(0).normal(-12, 2, (2, count, count)).astype(np.float32)
    return write_raster(
        folder / "rtc.tif", noise, descriptions=("VV", "VH"), tags={"units": ("dB", "dB")},
        crs=made.UTM, transform=north_up(made.LEFT, made.TOP, pixel, pixel),
    )  # fmt: skip


def test_a_raster_placed_nowhere_is_called_by_its_name(tmp_path, sentinel2):
    path = write_raster(
        tmp_path / "lost.tif", np.full((2, 64, 64), -12, np.float32), crs=None, transform=None,
        descriptions=("VV", "VH"), tags={"units": ("dB", "dB")},
    )  # fmt: skip
    with pytest.raises(RasterError, match=r"^lost\.tif has no coordinates") as refusal:
        stacked(tmp_path / "pair", sentinel2, path)
    assert "gdalwarp -rpc" in refusal.value.hint


def test_radar_alone_needs_a_grid_and_takes_that_of_a_raster(tmp_path, sentinel1):
    with pytest.raises(RasterError, match="no optical product") as refusal:
        stacked(tmp_path / "pair", None, sentinel1)
    assert "--grid" in refusal.value.hint
    grid = Grid(rasterio.crs.CRS.from_string(made.UTM),
                north_up(made.LEFT, made.TOP, 10, 10), SIDE, SIDE)  # fmt: skip
    result = stacked(tmp_path / "pair", None, sentinel1, grid=grid)
    assert_backscatter(pixels(result.paths["sar"]))


def test_windows_do_not_show(tmp_path, sentinel2, sentinel1, monkeypatch):
    whole = stacked(tmp_path / "a", sentinel2, sentinel1)
    monkeypatch.setattr("esccs_edge.rasters.products.stacking.WINDOW_PX", 64)
    parts = stacked(tmp_path / "b", sentinel2, sentinel1)
    np.testing.assert_array_equal(pixels(whole.paths["optical"]), pixels(parts.paths["optical"]))
    # The warper interpolates its way over the control points, to an eighth of a pixel.
    difference = pixels(whole.paths["sar"]) - pixels(parts.paths["sar"])
    assert np.abs(difference).max() < 0.1


# On the way to a map


def test_products_are_read_like_rasters_and_leave_nothing_behind(tmp_path, sentinel2, sentinel1):
    paths = {"optical": sentinel2, "sar": sentinel1}
    with as_rasters(paths, MANIFEST, tmp_path / "map.tif") as prepared:
        with open_scene(prepared.paths, MANIFEST.modalities) as scene:
            assert_ground(scene.read(0, 0, SIDE, SIDE)["optical"])
        assert any("calibrated" in note for note in prepared.notes)
    assert not list(tmp_path.iterdir())


def test_rasters_are_never_resampled(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.ones((13, 20, 20), np.uint16))
    with as_rasters({"optical": path}, MANIFEST, tmp_path / "map.tif") as prepared:
        assert prepared.paths == {"optical": path}


def test_addresses_are_read_only_when_asked_for(tmp_path):
    with pytest.raises(RasterError, match="lies on a network") as refusal:
        stacked(tmp_path / "pair", "https://example.com/scene.tif")
    assert "--remote" in refusal.value.hint


def test_existing_rasters_are_kept_unless_told(tmp_path, sentinel2):
    stacked(tmp_path / "pair", sentinel2)
    with pytest.raises(RasterError, match="already exists"):
        stacked(tmp_path / "pair", sentinel2)
    stacked(tmp_path / "pair", sentinel2, overwrite=True)


# Files that are not trusted


def test_a_metadata_bomb_and_a_member_outside_are_refused(tmp_path):
    with pytest.raises(RasterError, match="document type"):
        Metadata(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "x")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../outside.xml", "<a/>")
    with pytest.raises(RasterError, match="expected paths inside it"):
        Container(tmp_path / "bad.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "bad.zip").read_bytes()[:40])
    with pytest.raises(RasterError, match="cannot read"):
        Container(tmp_path / "cut.zip")


# Real files


@pytest.mark.data
def test_every_bigearthnet_patch_is_stacked_as_it_is_stored(bigearthnet, tmp_path):
    """Its own archives, unpacked and otherwise untouched: L2A files of single bands, VV and VH."""
    manifest = l2a_manifest()
    for number, files in enumerate(bigearthnet.values()):
        optical, sar = (next(iter(files[sensor].values())).parent for sensor in ("S2", "S1"))
        with pytest.raises(RasterError, match="L2A product, expected L1C"):
            stacked(tmp_path / "no", optical, sar)
        result = stacked(tmp_path / str(number), optical, sar, manifest=manifest)
        read = pixels(result.paths["optical"])
        assert read.shape == (12, 120, 120)
        for band in ("B02", "B03", "B04", "B08"):
            stored = pixels(files["S2"][band])[0]
            np.testing.assert_array_equal(
                read[SENTINEL2_L2A_BANDS.index(band)], np.maximum(stored, 1)
            )
        for i, polarization in enumerate(("VV", "VH")):
            stored = pixels(files["S1"][polarization])[0]
            found = pixels(result.paths["sar"])[i]
            np.testing.assert_allclose(found, stored, atol=1e-4)
        assert result.days_apart is not None and result.days_apart < 3


@pytest.mark.data
def test_a_geocoded_radar_raster_is_read_by_its_name(sample_data, tmp_path):
    """One VV raster of a public tool's tests; a model of VV alone reads it, ours says why not."""
    path = next((sample_data / "s1-geocoded").glob("*.tif"))
    from esccs_edge.rasters.products.target_grid import grid_of_raster

    grid = grid_of_raster(path)
    with pytest.raises(RasterError, match="lacks VH"):
        stacked(tmp_path / "pair", None, path, grid=grid)
    vv = narrowed(MANIFEST.modalities["sar"], ["VV"])
    alone = MANIFEST.evolve(modalities={**MANIFEST.modalities, "sar": vv})
    result = stacked(tmp_path / "pair", None, path, manifest=alone, grid=grid)
    stored, found = pixels(path)[0], pixels(result.paths["sar"])[0]
    known = np.isfinite(found)
    assert known.mean() > 0.4
    np.testing.assert_allclose(found[known], stored[known], atol=1e-4)
