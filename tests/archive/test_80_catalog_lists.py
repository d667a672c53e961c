"""Work lists of an archive: STAC ItemCollections and tables of paths, good and bad."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.archive_parts import item, write_items

from esccs_edge.archive.record import scene_folder
from esccs_edge.archive.scene_list import ArchiveScene, read_scene_list
from esccs_edge.errors import InputError


def only(tmp_path: Path, entry: dict) -> ArchiveScene:
    """Return the one scene of a collection of one item."""
    (scene,) = read_scene_list(write_items(tmp_path / "items.json", [entry]))
    return scene


def test_assets_are_found_by_key_and_paths_are_relative_to_the_file(tmp_path):
    scene = only(tmp_path, item("a", optical="sub/o.tif", sar="/data/s 1.tif", thumbnail="t.png"))
    assert scene == ArchiveScene("a", tmp_path / "sub/o.tif", Path("/data/s 1.tif"))


def test_assets_are_found_by_role_where_no_key_says_it(tmp_path):
    entry = item("a", B="o.tif", vv="s.tif")
    entry["assets"]["B"]["roles"] = ["data", "optical"]
    entry["assets"]["vv"]["roles"] = ["sar"]
    scene = only(tmp_path, entry)
    assert (scene.optical, scene.sar) == (tmp_path / "o.tif", tmp_path / "s.tif")
    entry["assets"]["optical"] = {"href": "by-key.tif"}
    assert only(tmp_path, entry).optical == tmp_path / "by-key.tif"


def test_one_modality_is_enough(tmp_path):
    assert only(tmp_path, item("a", sar="s.tif")) == ArchiveScene("a", None, tmp_path / "s.tif")


def test_a_file_address_is_a_path(tmp_path):
    scene = only(tmp_path, item("a", optical="file:///data/o%201.tif"))
    assert scene.optical == Path("/data/o 1.tif")


TWO_OF_A_ROLE = item("a", one="1.tif", two="2.tif")
for asset in TWO_OF_A_ROLE["assets"].values():
    asset["roles"] = ["optical"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (item("a", optical="https://host/o.tif"), "https://host/o.tif"),
        (item("a", optical="s3://bucket/o.tif", sar="s.tif"), "Fetch it first"),
        (item("a", optical="file://elsewhere/o.tif"), "elsewhere"),
        (item("a", thumbnail="t.png"), "neither"),
        (item("a", optical=""), "href ''"),
        ({"id": "a", "assets": [1, 2]}, "neither"),
        ({"id": "a"}, "neither"),
        (TWO_OF_A_ROLE, r"'one', 'two'"),
    ],
)
def test_an_unusable_item_stays_in_the_list_with_its_problem(tmp_path, entry, reason):
    scene = only(tmp_path, entry)
    assert scene.id == "a" and reason in scene.problem
    assert (scene.optical, scene.sar) == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (r'{"type": "FeatureCollection", "features": [{"id": "\ud800"}]}', "not valid JSON"),
        ("[]", "a JSON list"),
        (json.dumps(item("a", optical="o.tif")), "a JSON Feature"),
        ('{"type": "FeatureCollection"}', "ItemCollection"),
        ('{"type": "FeatureCollection", "features": []}', "no scenes"),
        ('{"type": "FeatureCollection", "features": [{"assets": {}}]}', "feature 0 has id None"),
        ('{"type": "FeatureCollection", "features": [7]}', "feature 0"),
        (
            json.dumps({"type": "FeatureCollection", "features": [item("twice", sar="s.tif")] * 2}),
            "2 scenes with the id 'twice'",
        ),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_as_a_whole(tmp_path, text, message):
    (tmp_path / "items.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_scene_list(tmp_path / "items.json")


@pytest.mark.parametrize("name", ["items.csv", "absent.json", "items"])
def test_other_files_are_no_lists(tmp_path, name):
    with pytest.raises(InputError, match=name.rpartition(".")[0] or name):
        read_scene_list(tmp_path / name)


def test_a_scene_survives_its_journey_to_a_worker():
    for scene in (
        ArchiveScene("ä/1", Path("/a b.tif"), None),
        ArchiveScene("b", None, None, "two assets"),
    ):
        assert ArchiveScene.from_json(scene.to_json()) == scene


# ---- tables --------------------------------------------------------------------------------------


@pytest.fixture
def write_table(tmp_path):
    """Write a table from columns; skips where pyarrow is missing."""
    pa = pytest.importorskip("pyarrow", reason="the extra 'scale' is not installed")
    import pyarrow.parquet as pq

    def write(**columns):
        pq.write_table(pa.table(columns), tmp_path / "list.parquet")
        return tmp_path / "list.parquet"

    return write


def test_a_table_names_paths_relative_to_itself(write_table, tmp_path):
    scenes = read_scene_list(
        write_table(
            optical=["a/o.tif", None, "", None], sar=["s.tif", "s2.tif", "s3.tif", None],
            id=["first", None, "", None], cloud_cover=[0.1, 0.2, 0.3, 0.4],
        )
    )  # fmt: skip
    assert scenes[:3] == [
        ArchiveScene("first", tmp_path / "a/o.tif", tmp_path / "s.tif"),
        ArchiveScene("s2", None, tmp_path / "s2.tif"),
        ArchiveScene("s3", None, tmp_path / "s3.tif"),
    ]
    assert scenes[3].id == "row 3" and "neither" in scenes[3].problem


def test_a_table_of_one_modality_names_scenes_by_their_paths(write_table):
    scenes = read_scene_list(write_table(optical=["t1/s2.tif", "t2/s2.tif"]))
    assert [scene.id for scene in scenes] == ["t1/s2", "t2/s2"]


def test_a_table_that_cannot_be_read_is_refused(write_table, tmp_path):
    for columns, message in (
        ({"path": ["a.tif"]}, "neither a column"),
        ({"id": ["a"]}, "neither a column"),
        ({"optical": [1, 2]}, "int64"),
        ({"optical": ["a.tif", "a.tif"]}, "2 scenes with the id 'a'"),
        ({"optical": ["a.tif"][:0]}, "null|no scenes"),
    ):
        with pytest.raises(InputError, match=message):
            read_scene_list(write_table(**columns))
    (tmp_path / "text.parquet").write_text("no parquet at all")
    with pytest.raises(InputError, match="cannot read"):
        read_scene_list(tmp_path / "text.parquet")


# ---- names ---------------------------------------------------------------------------------------


def test_every_id_gets_a_folder_of_its_own_inside_the_archive(tmp_path):
    ids = [
        "S2A_MSIL1C_20200101T000000", "a", "a.scores", "A/b", "A-b", "A b", "..", "../../etc",
        ".", "/abs", "-rf", "ä", "ö", "", "x" * 300, "x" * 301, "nul\0", "a\n",
    ]  # fmt: skip
    folders = [scene_folder(tmp_path, name) for name in ids]
    assert len(set(folders)) == len(ids)
    for folder in folders:
        assert folder.parent == tmp_path / "scenes"
        folder.mkdir(parents=True)
        assert folder.resolve().parent == (tmp_path / "scenes").resolve()
    assert folders[0].name == ids[0]


@pytest.mark.fault(35)
@pytest.mark.parametrize("href", ["http://[", "file://[", "https://[::1", "s3://\u2100/o.tif"])
def test_an_address_that_is_none_costs_its_own_scene_only(tmp_path, href):
    bad, good = read_scene_list(
        write_items(
            tmp_path / "items.json", [item("bad", optical=href), item("b", optical="o.tif")]
        )
    )
    assert bad.problem and href in bad.problem and not good.problem


@pytest.mark.fault(31)
@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are POSIX here")
@pytest.mark.parametrize("name", ["items.json", "table.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_list_that_is_no_plain_file_is_refused_at_once(tmp_path, name, kind):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match="cannot read"):
        read_scene_list(path)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf{}", b'{"type": 1, "type": 2}', b"[" * 10**5])
def test_a_list_that_could_be_read_in_two_ways_is_refused(tmp_path, content):
    (tmp_path / "items.json").write_bytes(content)
    with pytest.raises(InputError, match="not valid JSON"):
        read_scene_list(tmp_path / "items.json")


@pytest.mark.parametrize(
    "assets",
    [
        {"Optical": {"href": "o 1.tif"}, "SAR": {"href": "s.tif"}},
        {"S2": {"href": "o 1.tif", "roles": ["data", "Optical"]}, "Sar": {"href": "s.tif"}},
        {"optical": {"href": "o%201.tif"}, "sar": {"href": "./s.tif"}},
    ],
)
def test_neither_letters_nor_escapes_lose_a_raster(tmp_path, assets):
    for name in ("o 1.tif", "s.tif"):
        (tmp_path / name).touch()
    document = {"type": "FeatureCollection", "features": [{"id": "a", "assets": assets}]}
    (tmp_path / "items.json").write_text(json.dumps(document))
    (scene,) = read_scene_list(tmp_path / "items.json")
    assert (scene.optical, scene.sar) == (tmp_path / "o 1.tif", tmp_path / "s.tif")


def test_a_percent_sign_in_a_file_name_is_kept(tmp_path):
    (tmp_path / "o%201.tif").touch()
    (tmp_path / "o 1.tif").touch()
    assert only(tmp_path, item("a", optical="o%201.tif")).optical == tmp_path / "o%201.tif"
