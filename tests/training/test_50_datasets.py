"""Data sets: what each reader delivers, and that no place stands on two sides of a split."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile
from support.sen12ms_layout import SCENES, write_sen12ms

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.errors import InputError, RasterError
from esccs_edge.training.datasets import SPLITS, indices_of, open_dataset
from esccs_edge.training.datasets.eurosat import chosen_on
from esccs_edge.training.datasets.sen12ms import sar_partner
from esccs_edge.training.datasets.sen12ms_labels import read_labels, simple_class
from esccs_edge.training.datasets.splits import split_by_group, split_with_one_test_set


def assert_split_by_place(dataset, *, every_class: bool = True) -> None:
    groups, splits = np.asarray(dataset.groups), np.asarray(dataset.splits)
    sides = [set(groups[splits == split]) for split in SPLITS]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    if every_class:
        for split in SPLITS:
            found = set(np.asarray(dataset.labels)[splits == split].tolist())
            assert found == set(range(len(dataset.classes)))


# --- splitting by place -------------------------------------------------------------------------


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), classes=st.integers(1, 5), groups=st.integers(12, 40))
def test_split_keeps_groups_whole_and_every_class_everywhere(seed, classes, groups):
    rng = np.random.default_rng(seed)
    member = np.repeat(np.arange(groups), classes)
    labels = np.tile(np.arange(classes), groups)
    order = rng.permutation(len(labels))
    names = [f"g{g}" for g in member[order]]
    splits = np.array(split_by_group(labels[order], names, seed))
    for name in set(names):
        assert len(set(splits[np.array(names) == name])) == 1
    for split in SPLITS:
        assert set(labels[order][splits == split]) == set(range(classes))


def test_split_is_deterministic_and_depends_on_the_seed():
    labels = np.arange(300) % 3
    groups = [str(i // 5) for i in range(300)]
    assert split_by_group(labels, groups, 3) == split_by_group(labels, groups, 3)
    assert split_by_group(labels, groups, 3) != split_by_group(labels, groups, 4)


def test_a_seed_changes_who_trains_and_never_who_is_judged():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    groups = [f"place-{i // 4}" for i in range(400)]
    found = [np.array(split_with_one_test_set(labels, groups, seed)) for seed in range(3)]
    assert all(np.array_equal(found[0] == "test", other == "test") for other in found)
    assert not np.array_equal(found[0] == "val", found[1] == "val")
    for splits in found:
        sides = [{g for g, s in zip(groups, splits, strict=True) if s == side} for side in SPLITS]
        assert sum(map(len, sides)) == 100
        assert 0.15 < (splits == "test").mean() < 0.35


def test_spared_places_are_never_judged_and_named_ones_always():
    labels = np.tile([0, 1], 100)
    groups = [f"place-{i // 4}" for i in range(200)]
    spared = {f"place-{i}" for i in range(20)}
    splits = split_with_one_test_set(labels, groups, 1, spared=spared)
    judged = {g for g, s in zip(groups, splits, strict=True) if s == "test"}
    assert judged and not judged & spared
    named = {"place-3", "place-7"}
    splits = split_with_one_test_set(labels, groups, 1, judged=named)
    assert {g for g, s in zip(groups, splits, strict=True) if s == "test"} == named


def test_split_refuses_a_class_with_too_few_places():
    labels = np.array([0] * 30 + [1] * 10)
    groups = [str(i) for i in range(30)] + ["one place"] * 10
    with pytest.raises(InputError, match=r"classes \[1\].*too few groups"):
        split_by_group(labels, groups)


# --- EuroSAT and OMBRIA -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eurosat(sample_data: Path):
    return open_dataset(f"eurosat:{sample_data / 'eurosat-ms'}")


@pytest.mark.data
def test_eurosat_is_split_by_cell_near_60_15_25(eurosat):
    assert len(eurosat) == 785 and len(eurosat.classes) == 10
    assert_split_by_place(eurosat)
    for name, share in zip(SPLITS, (0.60, 0.15, 0.25), strict=True):
        labels = eurosat.labels[indices_of(eurosat, name)]
        assert len(labels) / 785 == pytest.approx(share, abs=0.02)
        by_class = np.bincount(labels) / np.bincount(eurosat.labels)
        assert np.abs(by_class - share).max() < 0.08


@pytest.mark.data
def test_eurosat_bands_are_in_sensor_order(eurosat):
    place = {band: i for i, band in enumerate(eurosat.optical_channels)}
    assert eurosat.optical_channels == SENTINEL2_L1C_BANDS and eurosat.sar_channels == ()
    means = eurosat.opticals.mean(axis=(0, 2, 3))
    # The narrow near-infrared band is bright like B08; the cirrus band is nearly black.
    assert means[place["B8A"]] > 0.9 * means[place["B08"]]
    assert means[place["B10"]] < 50
    optical, sar = eurosat.pair(0)
    assert optical.dtype == np.uint16 and optical.shape == (13, 64, 64) and sar is None


@pytest.mark.data
def test_no_cell_that_chose_an_option_is_judged(eurosat, sample_data):
    judged = {g for g, s in zip(eurosat.groups, eurosat.splits, strict=True) if s == "test"}
    chosen = chosen_on(eurosat.labels, eurosat.groups)
    assert len(chosen) > 20 and not judged & chosen
    other = open_dataset(f"eurosat:{sample_data / 'eurosat-ms'}", seed=4)
    assert [s == "test" for s in other.splits] == [s == "test" for s in eurosat.splits]


def picture(number: int, flooded: bool, channels: int) -> bytes:
    rng = np.random.default_rng(number)
    pixels = rng.integers(1, 255, (channels, 64, 64), np.uint8)
    if channels == 0:
        pixels = np.full((1, 64, 64), 255 * flooded, np.uint8)
    with MemoryFile() as memory:
        with memory.open(driver="PNG", height=64, width=64, count=len(pixels), dtype="uint8") as r:
            r.write(pixels)
        return bytes(memory.read())


def write_ombria(folder: Path, numbered: list[int], later: list[tuple[str, int]]) -> str:
    names = [(f"OmbriaS{{}}/train/{{}}/S_{n:04d}.png", n) for n in numbered]
    names += [(f"{flood}/Sentinel{{}}/{{}}/im_{n}.png", n) for flood, n in later]
    with tarfile.open(folder / "pairs.tar", "w") as archive:
        for pattern, n in names:
            for sensor, kind, channels in ((2, "AFTER", 3), (1, "AFTER", 1), (1, "MASK", 0)):
                content = picture(n, n % 2 == 1, channels)
                entry = tarfile.TarInfo(pattern.format(sensor, kind))
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return f"ombria:{folder}"


NUMBERED = [1, 2, 40, 41, 80, 81, 150, 151, 260, 261, 320, 321, 350, 351, 440, 441, 610, 611]


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_ombria_pictures_of_one_flood_stay_together_and_the_judged_floods_are_fixed(tmp_path):
    where = write_ombria(tmp_path, [*NUMBERED, 405, 406], [])
    found = [open_dataset(where, seed) for seed in range(3)]
    for dataset in found:
        assert_split_by_place(dataset)
        judged = {g for g, s in zip(dataset.groups, dataset.splits, strict=True) if s == "test"}
        assert judged == {"pictures 0075+", "pictures 0400+"}
    assert len(set(found[0].groups)) == 10


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_ombria_floods_of_a_later_year_are_what_is_judged(tmp_path):
    later = [("2021/TIMOR", 1), ("2021/TIMOR", 2), ("2021/ALBANIA", 1), ("2021/ALBANIA", 2)]
    dataset = open_dataset(write_ombria(tmp_path, NUMBERED, later))
    assert_split_by_place(dataset)
    judged = [g for g, s in zip(dataset.groups, dataset.splits, strict=True) if s == "test"]
    assert sorted(judged) == ["2021 ALBANIA"] * 2 + ["2021 TIMOR"] * 2
    assert len(dataset) == len(NUMBERED) + 4


@pytest.mark.data
def test_ombria_chips_are_real_pairs_split_by_flood(sample_data):
    dataset: Any = open_dataset(f"ombria:{sample_data / 'ombria'}")
    assert_split_by_place(dataset)
    judged = {g for g, s in zip(dataset.groups, dataset.splits, strict=True) if s == "test"}
    assert len(judged) == 5 and len(set(dataset.groups)) == 13
    optical, sar = dataset.pair(3)
    assert optical.shape == (3, 64, 64) and sar.shape == (1, 64, 64)
    assert optical.dtype == sar.dtype == np.uint8
    assert np.bincount(dataset.labels).min() > 500
    # Open water is dark in SAR: the label belongs to the pixels it is paired with.
    darkness = dataset.sars.mean(axis=(1, 2, 3))
    assert darkness[dataset.labels == 1].mean() < darkness[dataset.labels == 0].mean() - 20


def test_eurosat_names_a_missing_patch(tmp_path):
    (tmp_path / "index.csv").write_text("file,class,lon,lat,cell\nA/a.tif,A,0,0,0_0\n")
    with pytest.raises((RasterError, InputError), match="A/a.tif|too few groups"):
        open_dataset(f"eurosat:{tmp_path}")


@pytest.mark.parametrize("where", ["eurosat:", "landsat:/x", ""])
def test_unknown_data_set_is_refused_with_the_known_forms(where):
    with pytest.raises(InputError, match="eurosat:FOLDER"):
        open_dataset(where)


def test_an_index_that_is_not_there_is_named():
    with pytest.raises(InputError, match="there is no file nowhere.csv"):
        open_dataset("nowhere.csv")


# --- SEN12MS layout -----------------------------------------------------------------------------


@pytest.fixture
def sen12ms(tmp_path: Path) -> Path:
    write_sen12ms(tmp_path)
    return tmp_path


def test_sen12ms_pairs_partners_and_drops_the_broken_patch(sen12ms):
    dataset: Any = open_dataset(f"sen12ms:{sen12ms}")
    assert len(dataset) == 2 * len(SCENES) - 1
    assert not any("146_p202" in path.name for path in dataset.paths)
    optical, sar = dataset.pair(0)
    assert optical.dtype == np.uint16 and optical.shape == (13, 8, 8)
    assert sar.dtype == np.float32 and sar.shape == (2, 8, 8)
    with rasterio.open(sar_partner(dataset.paths[0])) as raster:
        # Read as float: an integer cast would truncate decibels.
        np.testing.assert_array_equal(sar, raster.read())


def test_sen12ms_labels_follow_the_text_file(sen12ms):
    dataset: Any = open_dataset(f"sen12ms:{sen12ms}")
    for path, label in zip(dataset.paths, dataset.labels, strict=True):
        scene = int(path.name.split("_")[3])
        assert label == scene % 10
    assert dataset.classes[dataset.labels[0]] == "Shrubland"


def test_sen12ms_uses_held_out_and_validation_scenes(sen12ms):
    (sen12ms / "splits").mkdir()
    (sen12ms / "splits" / "SEN12MS_holdOutScenes.txt").write_text("ROIs1158_spring/s1_2\n")
    (sen12ms / "splits" / "ValidationScenes.txt").write_text("ROIs1158_spring/s2_4\n")
    dataset = open_dataset(f"sen12ms:{sen12ms}")
    split_of = dict(zip(dataset.groups, dataset.splits, strict=True))
    assert split_of["ROIs1158_spring/2"] == "test"
    assert split_of["ROIs1158_spring/4"] == "val"
    assert split_of["ROIs1158_spring/1"] == split_of["ROIs1868_summer/146"] == "train"
    assert_split_by_place(dataset, every_class=False)


def test_sen12ms_without_lists_splits_by_scene(sen12ms):
    dataset = open_dataset(f"sen12ms:{sen12ms}", seed=5)
    assert_split_by_place(dataset, every_class=False)
    assert set(dataset.splits) >= {"train", "test"}


def test_igbp_fractions_join_into_ten_classes():
    fractions = np.zeros(17)
    fractions[[11, 13]] = 0.3, 0.25  # cropland and cropland mosaic: one simplified class
    fractions[12] = 0.45
    assert simple_class(fractions, "x") == 5
    assert [simple_class(np.eye(17)[i], "x") for i in range(17)] == [
        0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 5, 7, 8, 9]  # fmt: skip


def test_impure_sen12ms_patches_are_left_out_on_request(sen12ms):
    names = [path.name for path in sorted(sen12ms.glob("ROIs*/s2_*/*.tif"))]
    lines = [
        f"{name}: {0.5 + 0.05 * i} {0.5 - 0.05 * i}" + " 0" * 8 for i, name in enumerate(names)
    ]
    (sen12ms / "IGBP_probability_labels.txt").write_text("\n".join(lines) + "\n")
    everything = open_dataset(f"sen12ms:{sen12ms}")
    pure = open_dataset(f"sen12ms:{sen12ms}@purity=0.7")
    assert len(everything) == len(names) - 1 and 0 < len(pure) < len(everything)
    with pytest.raises(InputError, match="purity is 'x'"):
        open_dataset(f"sen12ms:{sen12ms}@purity=x")
    (sen12ms / "IGBP_probability_labels.txt").unlink()
    with pytest.raises(InputError, match="expected 10 or 17 fractions"):
        open_dataset(f"sen12ms:{sen12ms}@purity=0.7")


@pytest.mark.parametrize("numbers", [[0], [11], [1.5], [1, 2], [float("nan")] * 17])
def test_impossible_labels_are_refused(numbers):
    with pytest.raises(InputError, match="label of x"):
        simple_class(numbers, "x")


class _Attack:
    def __reduce__(self):
        return (print, ("code ran while labels were read",))


@pytest.mark.fault(57)
def test_no_pickle_is_read_not_even_one_of_plain_numbers(tmp_path, capsys):
    """A dtype among numbers is enough for a file to write into memory of its choice."""
    key = "ROIs1158_spring_s2_1_p30.tif"
    for content in ({key: _Attack()}, {key: [1.0] * 17}, {key: np.eye(17)[16]}):
        path = tmp_path / "IGBP_probability_labels.pkl"
        path.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(InputError, match=r"no label file.*labels\.pkl is not read"):
            read_labels(tmp_path)
    assert "code ran" not in capsys.readouterr().out
    (tmp_path / "IGBP_probability_labels.txt").write_text(f"{key}: {' '.join(['0'] * 16)} 1\n")
    assert read_labels(tmp_path) == {"ROIs1158_spring/1/30": 9}


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["not text", "a pipe"])
def test_labels_that_are_no_text_file_are_refused(tmp_path, content):
    path = tmp_path / "IGBP_probability_labels.txt"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="not UTF-8 text|no label file"):
        read_labels(tmp_path)


# --- index.csv ----------------------------------------------------------------------------------


def write_index(folder: Path, header: str, lines: list[str]) -> Path:
    path = folder / "index.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


HEADER = "optical,sar,label,group,split"


def test_index_dataset_reads_npy_pairs_with_sensor_names(tmp_path):
    optical = np.arange(13 * 16, dtype=np.uint16).reshape(13, 4, 4) + 1
    sar = np.full((2, 4, 4), -12.5, np.float32)
    np.save(tmp_path / "o.npy", optical)
    np.save(tmp_path / "s.npy", sar)
    path = write_index(tmp_path, HEADER, [
        "o.npy,s.npy,Forest,a,train", "o.npy,,River,b,val", ",s.npy,,c,test"])  # fmt: skip
    dataset = open_dataset(path)
    assert dataset.classes == ("Forest", "River") and dataset.labels.tolist() == [0, 1, -1]
    assert dataset.optical_channels == SENTINEL2_L1C_BANDS
    assert dataset.sar_channels == ("VV", "VH")
    np.testing.assert_array_equal(dataset.pair(0)[0], optical)
    np.testing.assert_array_equal(dataset.pair(0)[1], sar)
    assert dataset.pair(1)[1] is None and dataset.pair(2)[0] is None


def test_index_dataset_takes_channels_from_band_descriptions(tmp_path):
    pixels = np.arange(3, dtype=np.uint16)[:, None, None] * np.ones((1, 4, 4), np.uint16) + 1
    profile = dict(driver="GTiff", width=4, height=4, count=3, dtype="uint16", crs="EPSG:32631",
                   transform=rasterio.Affine(10, 0, 0, 0, -10, 0))  # fmt: skip
    with rasterio.open(tmp_path / "o.tif", "w", **profile) as raster:
        raster.write(pixels)
        raster.descriptions = ("B8", "B04", "B03")
    path = write_index(tmp_path, HEADER, ["o.tif,,A,a,train", "o.tif,,B,b,test"])
    dataset = open_dataset(path)
    assert dataset.optical_channels == ("B03", "B04", "B08") and dataset.sar_channels == ()
    assert dataset.pair(0)[0][:, 0, 0].tolist() == [3, 2, 1]


def test_index_dataset_refuses_a_group_in_two_splits(tmp_path):
    np.save(tmp_path / "s.npy", np.zeros((2, 4, 4), np.float32))
    path = write_index(tmp_path, HEADER, [",s.npy,A,place,train", ",s.npy,B,place,test"])
    with pytest.raises(InputError, match="group 'place' is in splits 'train' and 'test'"):
        open_dataset(path)


def test_asking_for_an_empty_split_says_which_exist(tmp_path):
    np.save(tmp_path / "s.npy", np.zeros((2, 4, 4), np.float32))
    path = write_index(tmp_path, HEADER, [",s.npy,A,a,train", ",s.npy,B,b,train"])
    with pytest.raises(InputError, match="no pair in split 'val'.*choose one of train"):
        indices_of(open_dataset(path), "val")


def test_a_folder_given_as_a_data_set_is_answered_with_what_to_give(tmp_path):
    with pytest.raises(InputError, match="expected eurosat:FOLDER") as caught:
        open_dataset(tmp_path)
    assert f"KIND:{tmp_path}" in caught.value.hint
    (tmp_path / "index.csv").write_text("optical,sar\n")
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path)
    assert caught.value.hint == f"Give {tmp_path / 'index.csv'}"
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path / "nowhere")
    assert caught.value.hint == "Check the spelling"
