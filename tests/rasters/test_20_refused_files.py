"""Files that are damaged, dangerous or of the wrong kind: refused with what was found."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine
from support.mapping_parts import FakeClassifier
from support.rasters import NORTH_UP, UTM, north_up, random_scene, write_raster
from support.tiny import tiny_manifest

from esccs_edge.errors import InputError, RasterError
from esccs_edge.rasters.reader import open_scene, read_patch, read_sample
from esccs_edge.scenes.mapping import classify_scene

MANIFEST = tiny_manifest(16)
MODALITIES = MANIFEST.modalities
OPTICAL, SAR = MODALITIES["optical"], MODALITIES["sar"]


@pytest.fixture
def scene():
    return random_scene(MANIFEST, 20, 24)


@pytest.mark.fault(31, 35)
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device", "url", "text", "empty"])
def test_what_is_no_raster_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "a.tif"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = "/dev/zero"
    elif kind == "url":
        path = "/vsicurl/http://127.0.0.1:9/a.tif"
    elif kind == "text":
        path.write_text("not a raster")
    elif kind == "empty":
        path.write_bytes(b"")
    started = time.perf_counter()
    with pytest.raises(RasterError, match=str(path)):
        read_patch(path, SAR)
    if kind != "folder":
        with pytest.raises(RasterError):
            classify_scene(FakeClassifier(), path, None, tmp_path / "map.tif")
    assert time.perf_counter() - started < 1


@pytest.mark.fault(35)
@pytest.mark.parametrize("suffix", ["tif", "png", "vrt"])
def test_a_vrt_under_any_name_is_refused(tmp_path, scene, suffix):
    secret = write_raster(tmp_path / "secret.tif", scene[1])
    vrt = tmp_path / f"a.{suffix}"
    vrt.write_text(
        '<VRTDataset rasterXSize="24" rasterYSize="20">'
        "<GeoTransform>500000, 10, 0, 4600000, 0, -10</GeoTransform>"
        + "".join(
            f'<VRTRasterBand dataType="Float32" band="{band}"><SimpleSource><SourceFilename>'
            f"{secret}</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource>"
            "</VRTRasterBand>"
            for band in (1, 2)
        )
        + "</VRTDataset>"
    )
    with rasterio.open(vrt, driver="VRT") as dataset:
        assert dataset.read().shape == scene[1].shape  # GDAL itself would follow it
    with pytest.raises(RasterError, match="cannot read"):
        read_patch(vrt, SAR)


@pytest.mark.fault(32)
@pytest.mark.parametrize("compress", [None, "deflate"])
def test_every_truncation_is_an_error(tmp_path, scene, compress):
    whole = write_raster(tmp_path / "a.tif", scene[1], compress=compress).read_bytes()
    cut = tmp_path / "cut.tif"
    for length in range(0, len(whole), max(len(whole) // 100, 1)):
        cut.write_bytes(whole[:length])
        with pytest.raises(RasterError):
            read_patch(cut, SAR)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """File name -> content, in layouts whose parsers differ."""
    folder = tmp_path_factory.mktemp("intact")
    sar = random_scene(MANIFEST, 12, 10)[1]
    write_raster(folder / "strips.tif", sar, compress="deflate", descriptions=("VV", "VH"))
    write_raster(folder / "tiles.tif", sar, tiled=True, blockxsize=16, blockysize=16, nodata=-99,
                 tags={"scales": (0.5, 0.5)})  # fmt: skip
    np.save(folder / "array.npy", sar)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# rasterio's own logger stumbles over GDAL messages that quote damaged text; nothing of ours does.
@pytest.mark.fault(33, 48)
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*rasterio._env.log_error:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("name", ["strips.tif", "tiles.tif", "array.npy"])
@settings(max_examples=80)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1))
def test_a_damaged_file_is_read_or_refused_but_never_anything_else(
    changes, name, intact, tmp_path_factory
):
    content = bytearray(intact[name])
    for position, value in changes:
        content[position % len(content)] = value
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    path.write_bytes(content)
    try:
        read = read_patch(path, SAR)
    except RasterError:
        return
    assert read.ndim == 3 and len(read) == 2


@pytest.mark.parametrize("damage", [(b"'shape'", b"'shape("), (b"}", b" ")])
def test_a_damaged_npy_header_is_refused(tmp_path, scene, damage):
    np.save(tmp_path / "a.npy", scene[1])
    content = (tmp_path / "a.npy").read_bytes().replace(*damage, 1)
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(RasterError, match=r"cannot read .*a\.npy"):
        read_patch(tmp_path / "a.npy", SAR)


@pytest.mark.fault(48)
def test_damaged_text_in_a_tag_is_refused(tmp_path, scene):
    path = write_raster(tmp_path / "a.tif", scene[1], descriptions=("VV", "VH"))
    path.write_bytes(path.read_bytes().replace(b">VV<", b">\xe9\xe9<"))
    with pytest.raises(RasterError):
        read_patch(path, SAR)


@pytest.mark.fault(34, 48)
def test_a_small_file_that_declares_a_huge_raster_is_refused_before_reading(tmp_path):
    path = tmp_path / "bomb.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=100_000, height=100_000, count=2, dtype="float32",
        tiled=True, sparse_ok=True, crs=UTM, transform=NORTH_UP, bigtiff="yes",
    ):  # fmt: skip
        pass
    assert path.stat().st_size < 10_000_000
    started = time.perf_counter()
    with pytest.raises(RasterError, match="declares 80 GB of pixels, expected at most"):
        read_patch(path, SAR)
    assert time.perf_counter() - started < 1
    with open_scene({"sar": path}, MODALITIES) as reader:  # but a scene is read by windows
        assert reader.read(70_000, 90_000, 16, 16)["sar"].shape == (2, 16, 16)


@pytest.mark.fault(34)
def test_a_block_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "block.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=40_000, height=40_000, count=2, dtype="float32",
        blockysize=40_000, sparse_ok=True, crs=UTM, transform=NORTH_UP, compress="deflate",
    ):  # fmt: skip
        pass
    with (
        pytest.raises(RasterError, match="blocks of 12.8 GB"),
        open_scene({"sar": path}, MODALITIES),
    ):
        pass


@pytest.mark.fault(56)
@pytest.mark.parametrize("content", ["object", "archive", "text", "short", "complex", "flat"])
def test_a_bad_npy_is_refused(tmp_path, scene, content):
    path = tmp_path / "a.npy"
    if content == "archive":
        np.savez(tmp_path / "a.npz", scene[1])
        (tmp_path / "a.npz").rename(path)
    elif content == "text":
        path.write_text("not an array")
    elif content == "short":
        np.save(path, scene[1])
        path.write_bytes(path.read_bytes()[:-8])
    else:
        arrays = {"object": np.array([{}]), "complex": scene[1] * 1j, "flat": scene[1].ravel()}
        np.save(path, arrays[content], allow_pickle=True)
    with pytest.raises(RasterError, match="a.npy"):
        read_patch(path, SAR)


@pytest.mark.fault(43)
def test_complex_and_palette_rasters_are_refused(tmp_path, scene):
    path = write_raster(tmp_path / "slc.tif", scene[1].astype(np.complex64))
    with pytest.raises(RasterError, match="complex64"):
        read_patch(path, SAR)
    spec = replace(SAR, channels=("VV",), mean=(-12.0,), std=(4.0,))
    path = write_raster(tmp_path / "map.tif", np.ones((1, 4, 4), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (255, 0, 0, 255)})
    with pytest.raises(RasterError, match="palette"):
        read_patch(path, spec)


@pytest.mark.fault(7)
@pytest.mark.parametrize(("bands", "expected"), [(12, "has 12 bands, expected 13"),
                                                 (2, "has 2 bands, expected 13")])  # fmt: skip
def test_a_wrong_band_count_names_both(tmp_path, scene, bands, expected):
    path = write_raster(tmp_path / "a.tif", scene[0][:bands])
    with pytest.raises(RasterError, match=expected):
        read_patch(path, OPTICAL)


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("transform", "found"),
    [
        (Affine(10, 1, 5e5, 1, -10, 4e6), "rotated"),
        (Affine(10, 0, 5e5, 0, 10, 4e6), "pixel size"),
        (Affine(-10, 0, 5e5, 0, -10, 4e6), "pixel size"),
    ],
)
def test_a_grid_that_is_not_north_up_is_refused(tmp_path, scene, transform, found):
    path = write_raster(tmp_path / "a.tif", scene[1], transform=transform)
    with pytest.raises(RasterError, match=found):
        read_patch(path, SAR)


@pytest.mark.fault(38)
def test_control_points_are_not_taken_for_a_grid(tmp_path, scene):
    points = [
        rasterio.control.GroundControlPoint(r, c, 3 + c, 40 - r) for r in (0, 9) for c in (0, 9)
    ]
    path = write_raster(tmp_path / "a.tif", scene[1], crs="EPSG:4326", transform=None, gcps=points)
    with pytest.raises(RasterError, match="ground control points"):
        read_patch(path, SAR)


def test_polynomials_are_not_taken_for_a_grid(tmp_path, scene):
    ones = [1.0] + [0.0] * 19
    rpcs = rasterio.rpc.RPC(
        0.0, 500.0, 48.0, 0.1, ones, ones, 5.0, 5.0, 9.0, 0.1, ones, ones, 5.0, 5.0, None, None
    )
    path = write_raster(tmp_path / "a.tif", scene[1], crs=None, transform=None, rpcs=rpcs)
    with pytest.raises(RasterError, match="rational polynomials") as refusal:
        read_patch(path, SAR)
    assert "gdalwarp -rpc" in refusal.value.hint


def test_a_reference_system_without_a_place_in_it_is_told(tmp_path, scene):
    path = write_raster(tmp_path / "a.tif", scene[1], transform=None)
    with pytest.raises(RasterError, match="no geotransform"):
        read_patch(path, SAR)


@pytest.mark.parametrize(("term", "accepted"), [(1e-16, True), (1e-6, True), (0.02, False)])
def test_rotation_that_moves_no_corner_is_rounding(tmp_path, scene, term, accepted):
    turned = Affine(10, term, 5e5, -term, -10, 4e6)
    path = write_raster(tmp_path / "a.tif", scene[1], transform=turned)
    if accepted:
        assert (read_patch(path, SAR) == scene[1]).all()
    else:
        with pytest.raises(RasterError, match="rotated"):
            read_patch(path, SAR)


# Pairs and scenes


@pytest.mark.fault(36, 37, 39)
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"crs": "EPSG:32631"}, "EPSG:32630 and SAR EPSG:32631"),
        ({"crs": None}, "EPSG:32630 and SAR none"),
        ({"transform": north_up(500_005.0, 4_600_000.0, 10, 10)}, "0.5 pixels apart"),
        ({"transform": north_up(500_000.0, 4_600_000.0, 10.1, 10)}, "pixels apart"),
        ({"transform": north_up(500_100.0, 4_600_000.0, 10, 10)}, "10 pixels apart"),
    ],
)
def test_rasters_of_two_grids_are_refused_with_both_values(tmp_path, scene, change, found):
    optical = write_raster(tmp_path / "o.tif", scene[0])
    sar = write_raster(tmp_path / "s.tif", scene[1], **change)
    with (
        pytest.raises(RasterError, match=found),
        open_scene({"optical": optical, "sar": sar}, MODALITIES),
    ):
        pass
    with pytest.raises(RasterError, match=found):
        read_sample({"optical": optical, "sar": sar}, MODALITIES)


#: What GDAL calls a raster that does not say where it lies.
NOWHERE = {"crs": None, "transform": None}


@pytest.mark.fault(36)
@pytest.mark.parametrize("lost", ["optical", "sar"])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_one_raster_that_lies_nowhere_is_refused_beside_one_that_lies_somewhere(
    tmp_path, scene, lost, suffix
):
    pixels = dict(zip(("optical", "sar"), scene, strict=True))
    paths = {name: write_raster(tmp_path / f"{name}.tif", pixels[name]) for name in pixels}
    if suffix == ".tif":
        write_raster(paths[lost], pixels[lost], **NOWHERE)
    else:  # which never says where it lies; one band of 8 bits each is all that the test needs
        modalities = {name: one_channel(spec) for name, spec in MODALITIES.items()}
        flat = {name: image[:1].astype(np.uint8) for name, image in pixels.items()}
        paths = {name: write_raster(tmp_path / f"{name}.tif", flat[name]) for name in flat}
        paths[lost] = write_raster(tmp_path / "lost.png", flat[lost], driver="PNG", **NOWHERE)
        with pytest.raises(RasterError, match="does not say where it lies"):
            read_sample(paths, modalities)
        return
    for read in (read_sample, lambda *given: open_scene(*given).__enter__()):
        with pytest.raises(RasterError, match=f"{TITLES[lost]} does not say where it lies"):
            read(paths, MODALITIES)


TITLES = {"optical": "optical", "sar": "SAR"}


def one_channel(spec):
    return replace(spec, channels=spec.channels[:1], mean=spec.mean[:1], std=spec.std[:1],
                   unit="reflectance", dn_scale=1e-4)  # fmt: skip


def test_two_rasters_without_a_place_and_an_array_beside_a_raster_are_read(tmp_path, scene):
    optical = write_raster(tmp_path / "o.tif", scene[0], **NOWHERE)
    sar = write_raster(tmp_path / "s.tif", scene[1], **NOWHERE)
    read_sample({"optical": optical, "sar": sar}, MODALITIES)
    np.save(tmp_path / "s.npy", scene[1])
    placed = write_raster(tmp_path / "p.tif", scene[0])
    read_sample({"optical": placed, "sar": tmp_path / "s.npy"}, MODALITIES)


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    ("optical", "sar"),
    [
        ("EPSG:32630", "EPSG:32630+5773"),
        ("EPSG:32630+3855", "EPSG:32630"),
        ("EPSG:32630+5773", "EPSG:32630+3855"),
        ("EPSG:28992", "EPSG:7415"),
        ("EPSG:25832", "EPSG:5555"),
    ],
)
def test_heights_are_no_matter(tmp_path, scene, optical, sar):
    paths = {
        "optical": write_raster(tmp_path / "o.tif", scene[0], crs=optical),
        "sar": write_raster(tmp_path / "s.tif", scene[1], crs=sar),
    }
    read_sample(paths, MODALITIES)
    with open_scene(paths, MODALITIES) as reader:
        assert reader.grid.height == 20


@pytest.mark.parametrize("height", ["", "+5773"])
def test_another_system_is_refused_in_a_line_whatever_it_says_of_heights(tmp_path, scene, height):
    optical = write_raster(tmp_path / "o.tif", scene[0], crs="EPSG:32630")
    sar = write_raster(tmp_path / "s.tif", scene[1], crs=f"EPSG:32631{height}")
    with pytest.raises(RasterError, match="CRS") as caught:
        read_sample({"optical": optical, "sar": sar}, MODALITIES)
    assert len(caught.value.message) < 200 and "32630" in caught.value.message


@pytest.mark.fault(36)
def test_rasters_of_two_sizes_are_refused_with_both_values(tmp_path, scene):
    optical = write_raster(tmp_path / "o.tif", scene[0])
    sar = write_raster(tmp_path / "s.tif", scene[1][:, :-1])
    with pytest.raises(RasterError, match="20 x 24 and SAR 19 x 24"):
        read_sample({"optical": optical, "sar": sar}, MODALITIES)
    with pytest.raises(RasterError, match="20 x 24 and SAR 19 x 24"):
        open_scene({"optical": optical, "sar": sar}, MODALITIES).__enter__()


@pytest.mark.fault(37)
def test_rounding_of_a_transform_is_no_mismatch(tmp_path, scene):
    optical = write_raster(tmp_path / "o.tif", scene[0])
    moved = north_up(500_000.0 + 1e-5, 4_600_000.0, 10 * (1 + 1e-9), 10)
    sar = write_raster(tmp_path / "s.tif", scene[1], transform=moved)
    with open_scene({"optical": optical, "sar": sar}, MODALITIES) as reader:
        assert (reader.grid.height, reader.grid.width) == (20, 24)


def test_nothing_to_read_is_refused():
    with pytest.raises(InputError, match="neither"):
        read_sample({}, MODALITIES)
    with pytest.raises(InputError, match="neither"), open_scene({"sar": None}, MODALITIES):
        pass


# Files of other kinds


@pytest.mark.parametrize(
    ("start", "kind", "advice"),
    [
        (b"\x00\x00\x00\x0cjP  \r\n", "JPEG 2000", "esccs-edge stack"),
        (b"PK\x03\x04", "ZIP", "esccs-edge stack"),
        (b"\x1f\x8b\x08", "gzip", "Unpack"),
        (b"BZh91AY", "bzip2", "Unpack"),
        (b"\x89HDF\r\n", "HDF5", "gdal_translate"),
        (b"CDF\x01", "netCDF", "gdal_translate"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_what_to_do(tmp_path, start, kind, advice):
    (tmp_path / "a.tif").write_bytes(start + bytes(100))
    with pytest.raises(RasterError, match=kind) as caught:
        read_patch(tmp_path / "a.tif", SAR)
    assert advice in caught.value.hint


def test_pages_of_one_band_are_named(tmp_path, scene):
    for page in range(3):
        more = {"APPEND_SUBDATASET": "YES"} if page else {}
        write_raster(tmp_path / "a.tif", scene[0][page : page + 1], **more)
    with pytest.raises(RasterError, match="3 pages of 1 band") as caught:
        read_patch(tmp_path / "a.tif", OPTICAL)
    assert "esccs-edge stack" in caught.value.hint


@pytest.mark.parametrize("tag", [0.0, float("nan"), float("inf")])
def test_a_scale_tag_that_can_scale_nothing_is_refused(tmp_path, scene, tag):
    path = write_raster(tmp_path / "a.tif", scene[0], tags={"scales": (tag,) * 13})
    with pytest.raises(RasterError, match="scale tags"):
        read_patch(path, OPTICAL)


@pytest.mark.fault(48)
@pytest.mark.parametrize(
    "error", [SystemError("an exception set"), UnicodeDecodeError("utf-8", b"\x98", 0, 1, "x")]
)
def test_an_error_left_by_the_logger_of_rasterio_is_refused(tmp_path, scene, monkeypatch, error):
    path = write_raster(tmp_path / "a.tif", scene[1], descriptions=("VV", "VH"))

    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("rasterio.open", fail)
    with pytest.raises(RasterError, match="cannot read .*a.tif"):
        read_patch(path, SAR)
