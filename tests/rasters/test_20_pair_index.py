"""The index.csv data set: it round-trips, and every mistake names its line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine
from support.pairs import pair_row
from support.rasters import UTM, north_up, write_raster
from support.tiny import CLASSES, raw_pair, tiny_manifest

from esccs_edge.errors import InputError, RasterError
from esccs_edge.rasters.label_map import NO_LABEL, read_label_map
from esccs_edge.rasters.pair_index import (
    COLUMNS,
    SPLITS,
    SampleRow,
    read_index,
    write_index,
)

MANIFEST = tiny_manifest(16)
HEADER = ",".join(COLUMNS)


@pytest.fixture
def folder(tmp_path):
    optical, sar = raw_pair(MANIFEST)
    np.save(tmp_path / "o.npy", optical)
    np.save(tmp_path / "s.npy", sar)
    return tmp_path


def index_of(folder: Path, *lines: str, header: str = HEADER, encoding: str = "utf-8") -> Path:
    path = folder / "index.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
    return path


def test_files_labels_groups_and_splits_are_read(folder):
    index = read_index(index_of(folder, "o.npy,s.npy,River,a,val", ",s.npy,,,", "o.npy,,Forest,,"))
    assert index.classes == ("Forest", "River") and len(index) == 3
    assert index.rows[0] == pair_row(folder / "o.npy", folder / "s.npy", "River", "a", "val")
    assert index.rows[1] == pair_row(None, folder / "s.npy", None, "line 3", "train")
    assert index.rows[2].paths["sar"] is None


def test_pixels_are_loaded_in_the_manifests_order(folder):
    index = read_index(index_of(folder, "o.npy,s.npy,River,a,val", ",s.npy,,,"))
    optical, sar = index.load(0, MANIFEST.modalities).values()
    np.testing.assert_array_equal(optical, np.load(folder / "o.npy"))
    np.testing.assert_array_equal(sar, np.load(folder / "s.npy"))
    assert index.load(1, MANIFEST.modalities)["optical"] is None


def test_two_sizes_in_one_pair_are_refused(folder):
    np.save(folder / "s.npy", np.load(folder / "s.npy")[:, :8])
    index = read_index(index_of(folder, "o.npy,s.npy,,,"))
    with pytest.raises(RasterError, match="16 x 16 and SAR 8 x 16"):
        index.load(0, MANIFEST.modalities)


def test_a_byte_order_mark_extra_columns_and_blank_lines_do_no_harm(folder):
    path = index_of(folder, "x,o.npy,,Río,g,test,1", "", header="note," + HEADER + ",cover",
                    encoding="utf-8-sig")  # fmt: skip
    (row,) = read_index(path).rows
    assert (row.label, row.split, row.cover) == ("Río", "test", 1.0)


def test_given_classes_set_the_order(folder):
    path = index_of(folder, "o.npy,,River,,")
    assert read_index(path, CLASSES).classes == CLASSES
    with pytest.raises(InputError, match="River"):
        read_index(path, ["Forest", "Sea"])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("o.npy,s.npy,a", "line 3 has 3 cells, expected 5"),
        ("no.npy,,a,g,train", "line 3 names 'no.npy'"),
        (".,,a,g,train", "line 3 names '.'"),
        (",,a,g,train", "line 3 names neither"),
        ("o.npy,,a,g,dev", "line 3 has split 'dev', expected one of train, val, test"),
        ('o.npy,,"a,g,train', "line 3"),
    ],
)
def test_a_wrong_line_is_named(folder, line, found):
    with pytest.raises(InputError, match=found):
        read_index(index_of(folder, "o.npy,,a,g,train", line))


@pytest.mark.parametrize("cover", ["1.01", "-0.1", "nan", "half"])
def test_a_cover_that_is_no_share_is_refused(folder, cover):
    path = index_of(folder, f"o.npy,,a,g,train,{cover}", header=HEADER + ",cover")
    with pytest.raises(InputError, match=f"line 2 has cover '{cover}'"):
        read_index(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "line 1 has columns"),
        (b"optical,sar,label\n", "group, split"),
        (HEADER.encode() + b",sar\n", "once each"),
        (HEADER.encode() + b"\n", "lists no pairs"),
        (HEADER.encode() + b"\n\xff,,,,\n", "not UTF-8"),
        (HEADER.encode() + b"\n\x00,,,,\n", "index.csv, line 2"),
    ],
)
def test_a_file_that_is_no_index_is_refused(tmp_path, content, found):
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(InputError, match=found):
        read_index(tmp_path / "index.csv")


def test_a_missing_index_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_index(tmp_path / "index.csv")


names = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\0"), min_size=1
).filter(lambda text: text == text.strip() and text not in (".", "..") and len(text) < 60)
labels = st.one_of(st.none(), names)
covers = st.one_of(st.none(), st.floats(0, 1))


@settings(max_examples=40)
@given(st.lists(st.tuples(names, labels, names, st.sampled_from(SPLITS), covers), min_size=1))
def test_what_is_written_is_read_back(rows):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = []
        for i, (file, label, group, split, cover) in enumerate(rows):
            path = folder / "pixels" / file
            path.parent.mkdir(exist_ok=True)
            path.touch()
            optical, sar = (path, None) if i % 2 else (None, path)
            written.append(pair_row(optical, sar, label, group, split, cover))
        write_index(folder / "lists" / "index.csv", written)
        read = read_index(folder / "lists" / "index.csv").rows
    assert [(found := r.paths["optical"]) and found.resolve() for r in read] == [
        w.paths["optical"] and w.paths["optical"].resolve() for w in written
    ]
    assert [(r.label, r.group, r.split, r.cover) for r in read] == [
        (w.label, w.group, w.split, w.cover) for w in written
    ]


def test_a_row_without_files_is_not_written(tmp_path):
    with pytest.raises(InputError, match="row 0"):
        write_index(tmp_path / "index.csv", [pair_row(None, None, "a", "g", "train")])
    assert list(tmp_path.iterdir()) == []


# Other modalities, and maps as targets


def test_columns_are_the_modalities_that_are_asked_for(folder):
    path = index_of(folder, "s.npy,River,a,val", header="radar,label,group,split")
    (row,) = read_index(path, modalities=["radar"]).rows
    assert row == SampleRow({"radar": folder / "s.npy"}, "River", "a", "val")
    loaded = read_index(path, modalities=["radar"]).load(0, {"radar": MANIFEST.modalities["sar"]})
    np.testing.assert_array_equal(loaded["radar"], np.load(folder / "s.npy"))
    with pytest.raises(InputError, match="expected optical, sar, label"):
        read_index(path)
    empty = index_of(folder, ",River,a,val", header="radar,label,group,split")
    with pytest.raises(InputError, match="line 2 names no radar file"):
        read_index(empty, modalities=["radar"])


def test_targets_are_written_read_and_loaded(folder):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16) % 4
    np.save(folder / "map.npy", labels)
    rows = [
        SampleRow({"radar": folder / "s.npy"}, None, "a", "val", 0.0, folder / "map.npy"),
        SampleRow({"radar": folder / "s.npy"}, None, "b", "train"),
    ]
    write_index(folder / "index.csv", rows)
    assert (folder / "index.csv").read_text().splitlines() == [
        "radar,label,group,split,cover,target",
        "s.npy,,a,val,0.0,map.npy",
        "s.npy,,b,train,,",
    ]
    index = read_index(folder / "index.csv", CLASSES, modalities=["radar"])
    assert list(index.rows) == rows
    np.testing.assert_array_equal(index.load_target(0), labels)
    assert index.load_target(1) is None
    with pytest.raises(InputError, match="map.npy holds class 3, expected 0 to 1"):
        read_index(folder / "index.csv", ["a", "b"], modalities=["radar"]).load_target(0)


def test_a_label_map_is_read_as_stored_with_absent_pixels_marked(tmp_path):
    labels = np.arange(64, dtype=np.uint8).reshape(1, 8, 8) % 4
    stored = labels.copy()
    stored[0, 2, 3] = 255
    path = write_raster(tmp_path / "map.tif", stored, nodata=255)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (255, 0, 0, 255)})
    read = read_label_map(path)
    assert read.dtype == np.int32 and read[2, 3] == NO_LABEL
    read[2, 3] = labels[0, 2, 3]
    np.testing.assert_array_equal(read, labels[0])
    np.save(tmp_path / "map.npy", labels[0].astype(np.int16) - 1)
    assert (read_label_map(tmp_path / "map.npy") == NO_LABEL).sum() == 16


@pytest.mark.parametrize(
    ("transform", "crs", "message"),
    [
        (north_up(500_050.0, 4_600_000.0, 10, 10), UTM, "5 pixels apart"),
        (north_up(500_000.0, 4_600_000.0, 20, 20), UTM, "pixels apart"),
        (north_up(500_000.0, 4_600_000.0, 10, 10), "EPSG:32631", "has CRS EPSG:32630"),
        (Affine(10, 0, 500_000, 0, 10, 4_599_920), UTM, "rows to the south"),
    ],
)
def test_a_label_map_of_another_place_is_refused(tmp_path, transform, crs, message):
    image = write_raster(tmp_path / "s2.tif", np.ones((13, 8, 8), np.uint16))
    labels = np.zeros((1, 8, 8), np.uint8)
    path = write_raster(tmp_path / "map.tif", labels, transform=transform, crs=crs)
    with pytest.raises(RasterError, match=message):
        read_label_map(path, image)
    same = write_raster(tmp_path / "same.tif", labels)
    nowhere = write_raster(tmp_path / "nowhere.tif", labels, crs=None, transform=None)
    for fitting in (same, nowhere):
        np.testing.assert_array_equal(read_label_map(fitting, image), labels[0])


@pytest.mark.parametrize("kind", ["two bands", "floats", "floats in npy"])
def test_what_is_no_label_map_is_refused(tmp_path, kind):
    path = tmp_path / ("map.npy" if kind == "floats in npy" else "map.tif")
    if kind == "floats in npy":
        np.save(path, np.ones((8, 8), np.float32))
    else:
        pixels = np.ones((2 if kind == "two bands" else 1, 8, 8), np.uint8)
        write_raster(path, pixels.astype(np.float32) if kind == "floats" else pixels)
    with pytest.raises(RasterError, match="2 bands" if kind == "two bands" else "float32 values"):
        read_label_map(path)
