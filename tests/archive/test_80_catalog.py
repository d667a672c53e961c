"""`map --catalog` in one process: maps, the table, going on by content, scenes that fail."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform_bounds
from support.archive_parts import item, records, write_items, write_scenes
from support.cli_parts import refused, run, run_json
from support.rasters import UTM, write_raster
from support.tiny import CLASSES

from esccs_edge.archive import statistics, worker
from esccs_edge.archive.footprint import footprint_of, polygons_of
from esccs_edge.archive.run import classify_archive
from esccs_edge.archive.scene_list import ArchiveScene, read_scene_list
from esccs_edge.archive.statistics import wkb_of
from esccs_edge.archive.worker import ArchiveOptions, SceneWorker
from esccs_edge.classifier import Classifier
from esccs_edge.errors import BackendError, InputError, Remedy
from esccs_edge.rasters.grid import Grid

NAMES = ("north", "south", "west")


@pytest.fixture
def catalog(bundle, tmp_path: Path) -> Path:
    """Three good scenes, and one whose raster is not there."""
    items = write_scenes(tmp_path, bundle.manifest, NAMES)
    return write_items(tmp_path / "items.json", [*items, item("gone", optical="nowhere.tif")])


@pytest.fixture
def archive(bundle, catalog, tmp_path: Path):
    """Run the command on the catalog; returns its document."""

    def run_it(*more, code: int = 1):
        at = ("--bundle", bundle.folder, "--backend", "cpu", "--out", tmp_path / "maps")
        return run_json("map", "--catalog", catalog, *at, *more, code=code)

    return run_it


def counts(document) -> tuple[int, int, int]:
    return document["classified"], document["skipped"], len(document["failed"])


def table_of(document):
    """Return the rows of the GeoParquet and its geo metadata."""
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra 'scale' is not installed")
    table = pq.read_table(document["statistics"])
    return table.to_pylist(), json.loads(table.schema.metadata[b"geo"])


def test_every_scene_gets_the_map_that_it_gets_alone(archive, bundle, tmp_path):
    document = archive()
    assert counts(document) == (3, 0, 1)
    with Classifier(bundle, "cpu") as classifier:
        for name in NAMES:
            pair = tmp_path / f"{name}-optical.tif", tmp_path / f"{name}-sar.tif"
            alone = classifier.classify_scene(*pair, tmp_path / f"{name}.tif")
            record = records(tmp_path / "maps")[name]
            for key in ("class_map", "scores"):
                with rasterio.open(getattr(alone, key)) as expected:
                    with rasterio.open(tmp_path / "maps" / record[key]) as found:
                        assert np.array_equal(found.read(), expected.read())
                        assert found.crs == expected.crs
            assert record["class_shares"] == alone.class_shares
            assert record["mean_gate_optical"] == alone.mean_gate_optical


def test_the_table_has_a_row_per_scene_in_the_order_of_the_list(archive, tmp_path):
    rows, _ = table_of(archive())
    assert [row["id"] for row in rows] == [*NAMES, "gone"]
    for row in rows[:3]:
        assert row["status"] == "done" and row["reason"] is None and row["backend"] == "cpu"
        assert sum(row[f"share_{name}"] for name in CLASSES) == pytest.approx(1)
        assert 0 < row["mean_confidence"] <= 1 and 0 <= row["mean_gate_optical"] <= 1
        assert row["nodata_share"] == 0 and row["seconds"] > 0
        assert (tmp_path / "maps" / row["class_map"]).is_file()
        assert all(len(row[f"{part}_sha256"]) == 64 for part in ("optical", "sar", "content"))
    gone = rows[3]
    assert gone["status"] == "failed" and "nowhere.tif" in gone["reason"]
    assert gone["class_map"] is None and gone["geometry"] is None
    assert gone["share_Forest"] is None and gone["mean_confidence"] is None


def test_the_table_is_geoparquet(archive):
    rows, geo = table_of(archive())
    column = geo["columns"][geo["primary_column"]]
    assert geo["version"] == "1.1.0" and geo["primary_column"] == "geometry"
    assert column["encoding"] == "WKB" and column["geometry_types"] == ["Polygon"]
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 4326}
    # 40 x 40 pixels of 10 m from the corner that tests/support/rasters.py gives all rasters
    expected = transform_bounds(UTM, "EPSG:4326", 500_000, 4_599_600, 500_400, 4_600_000)
    assert column["bbox"] == pytest.approx(expected, abs=1e-6)
    (points,) = rings_of(rows[0]["geometry"])
    assert np.allclose([points.min(0), points.max(0)], np.reshape(expected, (2, 2)), atol=1e-6)


def rings_of(wkb: bytes) -> list[np.ndarray]:
    """Return the outer rings of a little-endian WKB polygon or multipolygon."""
    at = 0

    def take(form: str):
        nonlocal at
        values = struct.unpack_from(form, wkb, at)
        at += struct.calcsize(form)
        return values

    def polygon() -> np.ndarray:
        assert take("<BII") == (1, 3, 1)
        (points,) = take("<I")
        return np.array(take(f"<{2 * points}d")).reshape(-1, 2)

    if wkb[1] == 3:
        found = [polygon()]
    else:
        order, kind, polygons = take("<BII")
        assert (order, kind) == (1, 6)
        found = [polygon() for _ in range(polygons)]
    assert at == len(wkb)
    return found


# ---- going on ------------------------------------------------------------------------------------


def test_a_second_run_finds_all_results_again(archive, tmp_path):
    first = table_of(archive())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("maps/scenes/*/*")}
    for raster in tmp_path.glob("*.tif"):
        os.utime(raster, (0, 0))  # dates are no part of the content
    assert counts(archive()) == (0, 3, 1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("maps/scenes/*/*")} == before
    assert table_of(archive()) == first


def test_a_changed_pixel_costs_one_scene(archive, tmp_path):
    archive()
    raster = tmp_path / "south-sar.tif"
    date = raster.stat().st_mtime
    with rasterio.open(raster, "r+") as dataset:
        pixels = dataset.read()
        pixels[0, 0, 0] += 1
        dataset.write(pixels)
    os.utime(raster, (date, date))
    assert counts(archive()) == (1, 2, 1)


def test_other_options_or_another_model_cost_all_scenes(archive, bundle):
    archive()
    assert counts(archive("--stride", 4)) == (3, 0, 1)
    assert counts(archive("--stride", 4)) == (0, 3, 1)
    assert counts(archive("--stride", 4, "--precision", "auto")) == (0, 3, 1)
    assert counts(archive("--stride", 4, "--precision", "fp32")) == (3, 0, 1)
    assert counts(archive("--stride", 4, "--precision", "fp32")) == (0, 3, 1)
    assert counts(archive("--stride", 4, "--baseline", "05.10")) == (3, 0, 1)
    bundle.add({}, temperature=2.0)
    assert counts(archive("--stride", 4, "--baseline", "05.10")) == (3, 0, 1)


@pytest.mark.parametrize("name", ["map.tif", "map.scores.tif", "scene.json"])
def test_a_damaged_result_is_made_again(archive, tmp_path, name):
    archive()
    damaged = tmp_path / "maps/scenes/west" / name
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-7])
    assert counts(archive()) == (1, 2, 1)
    if name != "scene.json":  # which holds the duration
        assert damaged.read_bytes() == whole
    damaged.unlink()
    assert counts(archive()) == (1, 2, 1)


def test_a_moved_raster_is_known_by_its_content(archive, catalog, tmp_path):
    archive()
    (tmp_path / "west-sar.tif").rename(tmp_path / "moved.tif")
    catalog.write_text(catalog.read_text().replace("west-sar.tif", "moved.tif"))
    document = archive()
    assert counts(document) == (0, 3, 1)
    assert table_of(document)[0][2]["sar"] == str(tmp_path / "moved.tif")


def test_a_raster_that_went_bad_does_not_cost_its_earlier_map(archive, tmp_path):
    archive()
    raster = tmp_path / "west-sar.tif"
    whole = raster.read_bytes()
    class_map = (tmp_path / "maps/scenes/west/map.tif").read_bytes()
    raster.write_bytes(b"II*\0 and then noise")
    document = archive()
    assert counts(document) == (0, 2, 2)
    assert table_of(document)[0][2]["class_map"] is None
    assert (tmp_path / "maps/scenes/west/map.tif").read_bytes() == class_map
    raster.write_bytes(whole)
    assert counts(archive()) == (0, 3, 1)


@pytest.mark.fault(47)
def test_a_killed_driver_loses_no_finished_scene(bundle, tmp_path):
    items = write_scenes(tmp_path, bundle.manifest, "abcdefgh", side=64)
    catalog, maps = write_items(tmp_path / "items.json", items), tmp_path / "maps"
    command = [
        sys.executable, "-m", "esccs_edge", "map", "--catalog", str(catalog), "--out", str(maps),
        "--bundle", str(bundle.folder), "--backend", "cpu", "--stride", "2", "--json",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as driver:
        while not records(maps) and driver.poll() is None:
            time.sleep(0.005)
        driver.kill()
    assert driver.returncode == -signal.SIGKILL
    finished = len(records(maps))
    assert 0 < finished < 8 and not (maps / "statistics.parquet").exists()
    done = subprocess.run(command, capture_output=True, check=True)
    assert counts(json.loads(done.stdout)) == (8 - finished, finished, 0)


# ---- failures ------------------------------------------------------------------------------------


def test_all_kinds_of_bad_scenes_are_listed_and_the_good_ones_done(bundle, tmp_path):
    good = write_scenes(tmp_path, bundle.manifest, ["good"])
    optical, sar = tmp_path / "good-optical.tif", tmp_path / "good-sar.tif"
    (tmp_path / "short.tif").write_bytes(optical.read_bytes()[:3000])
    write_raster(tmp_path / "small.tif", np.zeros((2, 20, 20), np.float32))
    bad = {
        "remote": item("remote", optical="https://host/o.tif"),
        "short": item("short", optical="short.tif"),
        "swapped": item("swapped", optical=sar.name),
        "grids": item("grids", optical=optical.name, sar="small.tif"),
        "folder": item("folder", optical="."),
        "empty": item("empty", thumbnail="t.png"),
    }
    catalog = write_items(tmp_path / "items.json", [*bad.values(), *good])
    at = ("--bundle", bundle.folder, "--backend", "cpu", "--out", tmp_path / "maps")
    document = run_json("map", "--catalog", catalog, *at, code=1)
    assert counts(document) == (1, 0, len(bad))
    reasons = {scene["id"]: scene["reason"] for scene in document["failed"]}
    assert set(reasons) == set(bad) and all(reasons.values())
    assert "https://host/o.tif" in reasons["remote"] and "height x width" in reasons["grids"]
    assert [path.name for path in (tmp_path / "maps/scenes").iterdir()] == ["good"]
    text = run("map", "--catalog", catalog, *at).stdout
    assert "1 already there, 6 failed" in text and reasons["grids"] in text


def test_a_fault_of_ours_fails_one_scene(monkeypatch, bundle, catalog, tmp_path):
    def faulty(classifier, optical, sar, out, **options):
        raise ZeroDivisionError("by zero") if "south" in str(out) else BackendError("once")

    monkeypatch.setattr(worker, "classify_scene", faulty)
    options = ArchiveOptions(tmp_path / "maps", str(bundle.folder), "cpu")
    summary = classify_archive(read_scene_list(catalog), options)
    reasons = [record.reason for record in summary.failed]
    assert reasons[:3] == ["once", "ZeroDivisionError: by zero", "once"]


def test_a_broken_device_ends_the_run_instead_of_failing_every_scene(
    monkeypatch, bundle, catalog, tmp_path
):
    def broken(*_, **__):
        raise BackendError("the GPU is gone", action=Remedy.RESTART)

    monkeypatch.setattr(worker, "classify_scene", broken)
    options = ArchiveOptions(tmp_path / "maps", str(bundle.folder), "cpu")
    with pytest.raises(BackendError, match="gone"):
        classify_archive(read_scene_list(catalog), options)
    assert not list(tmp_path.glob("maps/statistics*"))


def test_a_table_that_cannot_be_written_leaves_the_earlier_one(archive, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra 'scale' is not installed")
    path = Path(archive()["statistics"])
    before = path.read_bytes()

    def full(table, where):
        Path(where).write_bytes(b"half a table")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(AssertionError, match="no space left"):
        archive(code=0)
    assert path.read_bytes() == before and sorted(path.parent.iterdir())[1:] == [path]


def test_without_pyarrow_the_table_is_geojson(archive, monkeypatch, tmp_path):
    monkeypatch.setattr(statistics, "find_spec", lambda name: None)
    document = archive()
    assert document["statistics"].endswith("statistics.geojson")
    features = json.loads(Path(document["statistics"]).read_text())["features"]
    assert [feature["id"] for feature in features] == [*NAMES, "gone"]
    assert features[0]["geometry"]["type"] == "Polygon" and features[3]["geometry"] is None
    monkeypatch.undo()
    rows, _ = table_of(archive())
    assert not Path(document["statistics"]).exists()
    assert features[0]["properties"] == {k: v for k, v in rows[0].items() if k != "geometry"}


def test_a_list_that_is_refused_writes_nothing(at_tiny, tmp_path):
    (tmp_path / "items.json").write_text("{}")
    refused(run("map", "--catalog", tmp_path / "items.json", *at_tiny, "--out", tmp_path / "maps"))
    assert not (tmp_path / "maps").exists()


@pytest.fixture
def at_tiny(bundle):
    return ("--bundle", bundle.folder, "--backend", "cpu")


@pytest.mark.parametrize(
    "words",
    [
        "--catalog items.json",
        "--catalog items.json --out maps o.tif s.tif m.tif",
        "--catalog items.json --out maps --overwrite",
        "--catalog items.json --out maps --quicklook q.png",
        "--catalog items.json --out maps --workers 2",
        "--catalog items.json --out maps --engine local --gpus-per-worker 1",
        "--catalog items.json --out maps --engine slurm",
        "--catalog items.json --out maps --engine ray --workers 0",
        "o.tif s.tif m.tif --out maps",
        "o.tif s.tif m.tif --engine local",
        "o.tif s.tif m.tif --workers 2",
        "--out maps",
        "",
    ],
)
def test_options_of_the_other_use_are_refused(words):
    result = run("map", *words.split())
    assert result.exit_code == 2 and result.stdout == ""


def test_a_missing_ray_is_named_with_its_extra(catalog, at_tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "esccs_edge.archive.ray_engine", raising=False)
    words = ("--catalog", catalog, *at_tiny, "--out", tmp_path / "maps", "--engine", "ray")
    assert 'pip install "esccs-edge[scale]"' in refused(run("map", *words))


# ---- outlines ------------------------------------------------------------------------------------


def signed_area(ring) -> float:
    x, y = np.array(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def test_an_outline_follows_the_curved_edges_of_a_projected_grid():
    # across the central meridian, where the northernmost point is no corner
    grid = Grid(CRS.from_string("EPSG:32633"), Affine(10, 0, 445_100, 0, -10, 6.6e6), 10980, 10980)
    outline = footprint_of(grid)
    (ring,) = outline["coordinates"]
    assert outline["type"] == "Polygon" and ring[0] == ring[-1] and signed_area(ring) > 0
    bounds = transform_bounds(grid.crs, "EPSG:4326", 445_100, 6_490_200, 554_900, 6.6e6)
    found = [*np.min(ring, 0), *np.max(ring, 0)]
    assert found == pytest.approx(bounds, abs=1e-3)
    corners = np.array([ring[i] for i in range(0, 64, 16)])
    assert np.max(ring, 0)[1] > corners.max(0)[1] + 1e-3


def test_an_outline_across_the_antimeridian_becomes_two():
    grid = Grid(CRS.from_string("EPSG:32760"), Affine(1000, 0, 8e5, 0, -1000, 8.1e6), 100, 100)
    outline = footprint_of(grid)
    assert outline["type"] == "MultiPolygon" and len(outline["coordinates"]) == 2
    east, west = sorted((polygon[0] for polygon in outline["coordinates"]), key=np.mean)
    for ring in (east, west):
        assert signed_area(ring) > 0 and np.ptp(np.array(ring)[:, 0]) < 2
    rings = rings_of(wkb_of(outline))
    expected = [np.array(polygon[0]) for polygon in outline["coordinates"]]
    assert all(np.array_equal(a, b) for a, b in zip(rings, expected, strict=True))


@pytest.mark.parametrize(
    ("crs", "corner", "pixel", "west_and_east"),
    [
        ("EPSG:4326", (179.9968, -16.5), 1e-4, [(-180.0, -179.9968), (179.9968, 180.0)]),
        ("EPSG:4326", (-180.0032, -16.5), 1e-4, [(-180.0, -179.9968), (179.9968, 180.0)]),
        ("EPSG:4326", (200.0, -16.5), 1e-4, [(-160.0, -159.9936)]),
        ("EPSG:4326", (359.9968, 10.0), 1e-4, [(-0.0032, 0.0032)]),
        ("EPSG:3031", (-320.0, -2_000_000.0), 10, [(-180.0, -179.9908), (179.9908, 180.0)]),
        ("EPSG:32601", (165_700.0, 640.0), 10, [(-180.0, -179.9971), (179.9971, 180.0)]),
        ("EPSG:3413", (1e6, 1e6), 10, [(89.9997, 90.0003)]),
    ],
)
def test_longitudes_of_an_outline_stay_within_180_and_wrap_no_world(
    crs, corner, pixel, west_and_east
):
    transform = Affine(pixel, 0, corner[0], 0, -pixel, corner[1])
    outline = footprint_of(Grid(CRS.from_string(crs), transform, 64, 64))
    rings = [np.array(polygon[0]) for polygon in polygons_of(outline)]
    found = sorted((ring[:, 0].min(), ring[:, 0].max()) for ring in rings)
    if crs != "EPSG:3413":
        np.testing.assert_allclose(found, west_and_east, atol=1e-4)
    assert all(signed_area(ring) > 0 and (ring[0] == ring[-1]).all() for ring in rings)
    assert all(np.abs(ring[:, 0]).max() <= 180 and np.ptp(ring[:, 0]) < 1 for ring in rings)


def test_an_outline_around_a_pole_leads_over_it():
    grid = Grid(CRS.from_string("EPSG:3031"), Affine(1000, 0, -5e4, 0, -1000, 5e4), 100, 100)
    rings = [np.array(polygon[0]) for polygon in polygons_of(footprint_of(grid))]
    assert min(ring[:, 1].min() for ring in rings) == -90
    assert sum(np.ptp(ring[:, 0]) for ring in rings) == pytest.approx(360)


def test_scenes_that_lack_an_image_are_told(bundle, tmp_path):
    items = write_scenes(tmp_path, bundle.manifest, NAMES)
    items[1]["assets"]["vv"] = items[1]["assets"].pop("sar")
    listed = write_items(tmp_path / "items.json", items)
    at = ("--bundle", bundle.folder, "--backend", "cpu", "--out", tmp_path / "maps")
    text = run("map", "--catalog", listed, *at).stdout
    assert "1 scenes have no SAR image in the list: south" in text
    assert "no optical image" not in text


@pytest.mark.parametrize(
    "about",
    [
        {"links": [{"rel": "next", "href": "https://example.invalid/2"}]},
        {"numberMatched": 240, "numberReturned": 3},
        {"context": {"matched": 240, "returned": 3}},
        {"numberMatched": "240"},
        {"numberMatched": 240.0},
        {"numberReturned": 100},
        {"search:metadata": {"next": None, "returned": 3, "matched": 240}},
        {"meta": {"found": 240, "returned": 3, "page": 1}},
        {"properties": {"totalResults": 240, "itemsPerPage": 3}},
        {"properties": {"links": [{"rel": "next", "href": "https://example.invalid/2"}]}},
        {"totalFeatures": 240},
        {"links": [{"rel": "Next", "href": "https://example.invalid/2"}]},
        {"links": [{"rel": ["next"], "href": "https://example.invalid/2"}]},
        {"links": {"next": "https://example.invalid/2"}},
        {"next": "https://example.invalid/2"},
        {"paging": {"next": "a token"}},
        {"@odata.nextLink": "https://example.invalid/2"},
    ],
)
def test_one_page_of_a_search_is_refused(bundle, tmp_path, about):
    items = write_scenes(tmp_path, bundle.manifest, NAMES)
    document = {"type": "FeatureCollection", "features": items, **about}
    (tmp_path / "page.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="one page of a search: 3") as caught:
        read_scene_list(tmp_path / "page.json")
    assert "pystac-client" in caught.value.hint


@pytest.mark.parametrize(
    "about",
    [
        {"links": [{"rel": "self", "href": "https://example.invalid"}]},
        {"context": {"matched": 3, "returned": 3, "limit": 100}},
        {"search:metadata": {"next": None, "returned": 3, "matched": 3}},
        {"links": {"self": "https://example.invalid", "next": None}},
    ],
)
def test_a_whole_search_with_its_count_is_read(bundle, tmp_path, about):
    items = write_scenes(tmp_path, bundle.manifest, NAMES)
    document = {"type": "FeatureCollection", "features": items, "numberMatched": 3, **about}
    (tmp_path / "all.json").write_text(json.dumps(document))
    assert len(read_scene_list(tmp_path / "all.json")) == 3


def test_a_picture_without_a_place_has_no_outline(bundle, tmp_path):
    assert footprint_of(Grid(None, Affine.identity(), 5, 5)) is None
    optical = np.full((13, 16, 16), 1000, np.uint16)
    write_raster(tmp_path / "o.tif", optical, crs=None, transform=Affine.identity())
    with SceneWorker(ArchiveOptions(tmp_path, str(bundle.folder), "cpu")) as classify:
        record = classify(ArchiveScene("a", tmp_path / "o.tif", None))
    assert record.status == "done" and record.footprint is None


@pytest.mark.parametrize(
    "damage",
    [{"width": "x"}, {"class_shares": 5}, {"class_shares": {"Forest": "x"}}, {"id": 7},
     {"is_earlier": 1}, {"footprint": []}, {"seconds": True}, {"status": None}],
    ids=str,
)  # fmt: skip
def test_a_record_of_wrong_types_is_made_again(archive, tmp_path, damage):
    archive()
    path = tmp_path / "maps" / "scenes" / "north" / "scene.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, **damage}))
    assert counts(archive()) == (1, 2, 1)
    again = json.loads(path.read_text())
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}


@pytest.mark.parametrize("content", [b"[" * 10**5, b'{"id": "a", "id": "b"}', b"\xff", b""])
def test_a_record_that_is_no_json_is_made_again(archive, tmp_path, content):
    archive()
    (tmp_path / "maps" / "scenes" / "north" / "scene.json").write_bytes(content)
    assert counts(archive()) == (1, 2, 1)
