"""From downloaded products to a map, by commands."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from support import products as made
from support.cli_parts import refused, run, run_json
from support.rasters import write_raster


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    folder = tmp_path_factory.mktemp("products")
    return made.write_sentinel2(folder, side_m=960), made.zipped(made.write_sentinel1(folder))


@pytest.fixture
def at(bundle):
    return ("--bundle", bundle.folder)


def test_stack_tells_what_it_read(products, at, tmp_path):
    document = run_json("stack", *products, "--out", tmp_path / "pair", *at)
    optical, sar = document["inputs"]["optical"], document["inputs"]["sar"]
    assert (optical["level"], optical["baseline"], optical["valid_share"]) == ("L1C", "05.09", 1.0)
    assert sar["level"] == "GRD" and sar["acquired"].startswith("2023-08-24T16:35:12")
    assert (document["height"], document["width"], document["crs"]) == (96, 96, made.UTM)
    assert document["days_apart"] == pytest.approx(1.277, abs=1e-3)
    text = run("stack", *products, "--out", tmp_path / "pair", "--overwrite", *at).stdout
    assert "offset -1000 applied" in text and "1.3 days apart" in text
    assert "esccs-edge map" in text.splitlines()[-1]


def test_a_map_of_products_is_that_of_their_rasters(products, at, tmp_path):
    run_json("stack", *products, "--out", tmp_path / "pair", *at)
    rasters = tmp_path / "pair" / "optical.tif", tmp_path / "pair" / "sar.tif"
    options = (*at, "--backend", "cpu")
    direct = run_json("map", *products, tmp_path / "direct.tif", *options)
    run_json("map", *rasters, tmp_path / "staged.tif", *options)
    for ending in ("tif", "scores.tif"):
        paths = [tmp_path / f"{name}.{ending}" for name in ("direct", "staged")]
        maps = [rasterio.open(path).read() for path in paths]
        np.testing.assert_array_equal(*maps)
    assert any("calibrated to sigma0" in note for note in direct["notes"])
    assert "the images are 1.3 days apart" in direct["notes"]
    left = {path.name for path in tmp_path.iterdir()} - {"pair", "bundle"}
    endings = ("tif", "scores.tif", "stac.json")
    assert left == {f"{name}.{ending}" for name in ("direct", "staged") for ending in endings}


def test_the_picture_of_a_map_of_products_shows_them(products, at, tmp_path):
    pytest.importorskip("cv2")
    pytest.importorskip("matplotlib")
    run_json("map", *products, tmp_path / "a.tif", "--quicklook", tmp_path / "a.png", *at)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_a_map_never_replaces_a_part_of_an_input(at, tmp_path):
    pytest.importorskip("cv2")
    pytest.importorskip("matplotlib")
    safe = made.write_sentinel2(tmp_path, side_m=480)
    picture = write_raster(tmp_path / "s2.png", np.ones((13, 20, 20), np.uint16))
    before = picture.read_bytes()
    message = refused(run("map", safe, "-", next(safe.rglob("*_B02.jp2")).with_suffix(".tif"), *at))
    assert "which is an input" in message
    out = tmp_path / "map.tif", "--quicklook", picture
    assert "also an input" in refused(run("map", picture, "-", *out, *at))
    assert picture.read_bytes() == before and not (tmp_path / "map.tif").exists()


def test_an_option_about_an_image_that_is_not_given_is_refused(at, tmp_path):
    image = write_raster(tmp_path / "a.tif", np.full((2, 40, 40), -12, np.float32))
    for pair, option in (
        (("-", image), ("--baseline", "05.10")),
        ((image, "-"), ("--sar-unit", "dB")),
    ):
        answer = run("stack", *pair, "--out", tmp_path / "pair", *option, *at)
        assert answer.exit_code == 2 and f"{option[0]} is given, but no" in answer.stderr


def test_a_map_says_that_an_image_gave_nothing(at, tmp_path):
    optical = write_raster(tmp_path / "o.tif", np.full((13, 40, 40), 900, np.uint16))
    sar = write_raster(tmp_path / "s.tif", np.full((2, 40, 40), np.nan, np.float32))
    text = run("map", optical, sar, tmp_path / "both.tif", *at).stdout
    assert "patches lack the data of one of the images" in text
    text = run("map", optical, "-", tmp_path / "one.tif", *at).stdout
    assert "lack the data" not in text


def test_l2a_is_refused_by_both_commands_and_writes_nothing(at, tmp_path):
    safe = made.write_sentinel2(tmp_path, level="L2A", side_m=480)
    for arguments in (("stack", safe, "-", "--out", tmp_path / "pair"),
                      ("map", safe, "-", tmp_path / "map.tif")):  # fmt: skip
        assert "MSIL1C" in refused(run(*arguments, *at))
    assert {path.name for path in tmp_path.iterdir()} == {safe.name, "bundle"}


def test_an_address_is_refused_until_it_is_asked_for(at, tmp_path):
    message = refused(run("map", "https://localhost:9/a.tif", "-", tmp_path / "map.tif", *at))
    assert "lies on a network" in message and "--remote" in message
    answer = run("map", "https://localhost:9/a.tif", "-", tmp_path / "map.tif", "--remote", *at)
    assert answer.exit_code == 1
    assert "cannot read /vsicurl/https://localhost:9/a.tif" in answer.stderr
