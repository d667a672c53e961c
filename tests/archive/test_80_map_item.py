"""The STAC item beside a map: where, when, which classes, and of what it was made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from support import products as made
from support.cli_parts import refused, run, run_json
from support.mapping_parts import MANIFEST, FakeClassifier
from support.rasters import north_up, random_scene, write_raster

from esccs_edge.archive.map_item import item_path_of, write_map_item
from esccs_edge.scenes.mapping import classify_scene


def mapped(folder: Path, **grid):
    optical, _ = random_scene(MANIFEST, 20, 24)
    path = write_raster(folder / "o p.tif", optical, **grid)
    summary = classify_scene(FakeClassifier(), path, None, folder / "map.tif")
    given = {"optical": path, "sar": None}
    return summary, json.loads(write_map_item(summary, MANIFEST, given, given).read_text())


def test_an_item_says_where_the_map_lies_and_what_its_numbers_mean(tmp_path):
    summary, item = mapped(tmp_path)
    assert item_path_of(summary.class_map) == tmp_path / "map.stac.json"
    assert item["type"] == "Feature" and item["id"] == "map" and item["stac_version"] == "1.0.0"
    west, south, east, north = item["bbox"]
    ring = np.array(item["geometry"]["coordinates"][0])
    assert (west, east) == (ring[:, 0].min(), ring[:, 0].max())
    assert (south, north) == (ring[:, 1].min(), ring[:, 1].max())
    assert item["properties"]["proj:code"] == "EPSG:32630"
    assert item["properties"]["proj:shape"] == [20, 24]
    assert item["properties"]["proj:transform"][:3] == [10, 0, 500_000]
    listed = item["assets"]["classes"]["classification:classes"]
    assert [entry["title"] for entry in listed] == list(MANIFEST.classes)
    assert [entry["value"] for entry in listed] == list(range(len(MANIFEST.classes)))
    assert all(len(entry["color_hint"]) == 6 for entry in listed)
    for asset, path in (("classes", summary.class_map), ("scores", summary.scores)):
        assert item["assets"][asset]["href"] == f"./{path.name}"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert item["assets"][asset]["file:checksum"] == f"1220{digest}"
    assert item["links"] == [{"rel": "derived_from", "href": "o%20p.tif", "title": "optical"}]
    assert item["properties"]["esccs:class_shares"] == summary.class_shares


def test_a_time_that_is_not_known_is_said_not_to_be(tmp_path):
    properties = mapped(tmp_path)[1]["properties"]
    assert properties["datetime"] == properties["created"]
    assert "is not known" in properties["description"]


def test_a_map_across_180_degrees_has_two_outlines_and_a_turned_box(tmp_path):
    grid = {"crs": "EPSG:32660", "transform": north_up(833_900, 100_000, 10, 10)}
    item = mapped(tmp_path, **grid)[1]
    assert item["geometry"]["type"] == "MultiPolygon"
    west, _, east, _ = item["bbox"]
    assert 179.9 < west < 180 and -180 < east < -179.9


def test_a_map_without_coordinates_has_no_outline(tmp_path):
    item = mapped(tmp_path, crs=None, transform=None)[1]
    assert item["geometry"] is None and "bbox" not in item
    assert not [key for key in item["properties"] if key.startswith("proj:")]


@pytest.fixture
def at(bundle):
    return ("--bundle", bundle.folder, "--backend", "cpu")


def test_a_map_of_products_is_dated_and_tells_how_they_were_read(tmp_path, at):
    optical = made.write_sentinel2(tmp_path, side_m=480)
    sar = made.write_sentinel1(tmp_path)
    document = run_json("map", optical, sar, tmp_path / "map.tif", *at)
    item = json.loads(Path(document["item"]).read_text())
    properties = item["properties"]
    assert properties["datetime"] is None
    assert properties["start_datetime"] == "2023-08-23T09:55:59Z"
    assert properties["end_datetime"] == "2023-08-24T16:35:12Z"
    assert any("calibrated to sigma0" in note for note in properties["esccs:notes"])
    assert [link["href"] for link in item["links"]] == [optical.name, sar.name]


def test_an_item_that_exists_is_kept_unless_told(tmp_path, at):
    optical, _ = random_scene(MANIFEST, 20, 24)
    path = write_raster(tmp_path / "o.tif", optical)
    (tmp_path / "map.stac.json").write_text("mine")
    message = refused(run("map", path, "-", tmp_path / "map.tif", *at))
    assert "map.stac.json already exists" in message and not (tmp_path / "map.tif").exists()
    run_json("map", path, "-", tmp_path / "map.tif", "--overwrite", *at)
    assert json.loads((tmp_path / "map.stac.json").read_text())["id"] == "map"
