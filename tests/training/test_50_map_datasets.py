"""Readers of data sets with label maps, on tiny folders in their layouts and on public samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import rasters
from support.m3m_cr_layout import with_optical, write_raster
from support.rasters import north_up
from support.tiny_maps import CLASSES, tiny_map_index

from esccs_edge.errors import InputError, RasterError
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.datasets.map_dataset import IGNORED, class_numbers
from esccs_edge.training.datasets.maps import open_map_dataset

# --- M3M-CR --------------------------------------------------------------------------------------


@pytest.fixture
def m3m(tmp_path: Path) -> Path:
    """One patch with every code of WorldCover in a row of its land cover."""
    codes = np.array([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100], np.uint8)
    cover = np.full((1, 90, 90), 10, np.uint8)
    cover[0, 0, : len(codes)] = codes
    sar = np.stack([np.full((90, 90), -30.0), np.full((90, 90), -40.0)])
    sar[:, 1] = 3.0
    optical = np.full((4, 300, 300), 2000, np.uint16)
    names = [f"{kind}_fall/{kind}_fall_7/{kind}_fall_7_p_1" for kind in
             ("planet_cloudfree", "planet_cloudy", "S1", "landcover", "cloudmask")]  # fmt: skip
    images = (optical, optical + 1, sar, cover)
    for name, pixels in zip(names, images, strict=False):
        write_raster(tmp_path / "train" / f"{name}.tif", pixels)
    mask = np.zeros((300, 300), bool)
    mask[:150] = True
    path = tmp_path / "train" / f"{names[4]}.npy"
    path.parent.mkdir(parents=True)
    np.save(path, mask)
    row = ",".join([*(f"{name}.tif" for name in names[:4]), f"{names[4]}.npy"])
    (tmp_path / "train.csv").write_text(row + "\n")
    return tmp_path


def test_m3m_cr_codes_without_a_class_do_not_count(m3m):
    data = open_map_dataset(f"m3m-cr:{m3m}")
    assert (data.groups, data.splits, data.has_cloud_masks) == (("fall_7",), ("train",), True)
    sample = data.sample(0)
    named = ["-", "forest", "rangeland", "rangeland", "agriculture", "urban", "barren", "-",
             "water", "water", "-", "-"]  # fmt: skip
    found = sample.target[0, : len(named)]
    assert ["-" if n == IGNORED else data.classes[n] for n in found] == named
    assert sample.target.shape == (90, 90) and sample.target.max() == IGNORED


def test_m3m_cr_images_come_to_one_grid_in_their_ranges(m3m):
    sample = open_map_dataset(f"m3m-cr:{m3m}").sample(0)
    assert sample.optical.dtype == np.uint16 and (sample.optical == sample.clear + 1).all()
    assert sample.sar.shape == (2, 300, 300) and sample.sar.dtype == np.float32
    assert np.unique(sample.sar[0]).tolist() == [-25.0, 0.0]
    assert np.unique(sample.sar[1]).tolist() == [-32.5, 0.0]
    # Row 1 of 90 is rows 3.33 to 6.67 of 300: by nearest centers rows 3 to 6.
    assert np.flatnonzero(sample.sar[0, :, 0] == 0).tolist() in ([3, 4, 5, 6], [4, 5, 6], [3, 4, 5])
    assert sample.cloud.mean() == 0.5


def test_m3m_cr_lists_that_do_not_fit_are_refused(m3m):
    row = (m3m / "train.csv").read_text()
    (m3m / "test.csv").write_text(row)
    with pytest.raises(InputError, match=r"names .*, which is no file|in splits"):
        (m3m / "test").symlink_to(m3m / "train")
        open_map_dataset(f"m3m-cr:{m3m}")
    (m3m / "test.csv").unlink()
    (m3m / "train.csv").write_text("a.tif,b.tif\n")
    with pytest.raises(InputError, match="line 1 has 2 cells, expected 5: cloudfree, cloudy, S1"):
        open_map_dataset(f"m3m-cr:{m3m}")
    (m3m / "train.csv").write_text(row.replace("S1_fall_7_p_1", "S1_fall_7_p_2"))
    with pytest.raises(InputError, match="S1_fall_7_p_2.tif, which is no file"):
        open_map_dataset(f"m3m-cr:{m3m}")


@pytest.mark.data
def test_public_samples_of_m3m_cr_are_read_with_generated_optical_images(sample_data, tmp_path):
    for split in ("train", "test"):
        with_optical(sample_data / "m3m-cr" / "M3M-CR" / split, tmp_path, split)
    data = open_map_dataset(f"m3m-cr:{tmp_path}")
    assert data.splits == ("train", "test") and data.groups == ("fall_1", "summer_33")
    for index in range(2):
        sample = data.sample(index)
        assert sample.optical.shape == (4, 300, 300) and sample.sar.shape == (2, 300, 300)
        known = sample.target[sample.target != IGNORED]
        assert known.size > 4000 and known.max() < len(data.classes)
        assert -25 <= sample.sar[0].mean() <= -5
        assert (sample.optical[:, sample.cloud] == 7000).all()


# --- WHU-OPT-SAR ---------------------------------------------------------------------------------


@pytest.fixture
def whu(tmp_path: Path) -> Path:
    for number in range(10):
        codes = np.zeros((1, 520, 300), np.uint8)
        codes[0, :256, :256] = np.array([0, 10, 20, 30, 40, 50, 60, 70])[np.arange(256) // 32]
        for folder, pixels in (
            ("optical", np.full((4, 520, 300), number, np.uint8)),
            ("sar", np.full((1, 520, 300), 100, np.uint8)), ("lbl", codes),
        ):  # fmt: skip
            write_raster(tmp_path / folder / f"NH{number:02d}.tif", pixels)
    return tmp_path


def test_whu_opt_sar_is_read_in_patches_and_split_by_tile(whu):
    data = open_map_dataset(f"whu-opt-sar:{whu}")
    assert len(data) == 20 and len(set(data.groups)) == 10
    homes = {group: {s for g, s in zip(data.groups, data.splits, strict=True) if g == group}
             for group in data.groups}  # fmt: skip
    assert all(len(found) == 1 for found in homes.values())
    assert sum(found == {"test"} for found in homes.values()) == 2
    assert sum(found == {"val"} for found in homes.values()) == 1
    sample = data.sample(0)
    assert sample.optical.shape == (4, 256, 256) and sample.sar.shape == (1, 256, 256)
    assert sample.target[0, ::32].tolist() == [IGNORED, 0, 1, 2, 3, 4, 5, 6]
    assert (data.sample(1).target == IGNORED).all()


def test_whu_opt_sar_keeps_to_lists_where_they_are(whu):
    names = [f"NH{n:02d}" for n in range(10)]
    (whu / "train.txt").write_text("\n".join(names[:8]))
    (whu / "test.txt").write_text("\n".join(names[8:]))
    data = open_map_dataset(f"whu-opt-sar:{whu}")
    judged = {g for g, s in zip(data.groups, data.splits, strict=True) if s == "test"}
    assert judged == set(names[8:])
    (whu / "val.txt").write_text("NH00")
    with pytest.raises(InputError, match="tile NH00 is in the lists train and val"):
        open_map_dataset(f"whu-opt-sar:{whu}")
    (whu / "optical" / "NH00.tif").unlink()
    (whu / "val.txt").unlink()
    with pytest.raises(InputError, match="has no NH00.tif, which lbl has"):
        open_map_dataset(f"whu-opt-sar:{whu}")


# --- an index ------------------------------------------------------------------------------------


def test_an_index_with_masks_needs_no_label_column(tmp_path):
    where = tiny_map_index(tmp_path / "maps")
    data = open_map_dataset(where, classes=CLASSES)
    assert (len(data), data.classes, data.has_cloud_masks) == (8, CLASSES, False)
    sample = data.sample(3)
    assert sample.optical.dtype == np.uint16 and sample.sar.shape == (2, 64, 64)
    assert set(np.unique(sample.target)) == {0, 1, IGNORED} and (sample.target[:2] == IGNORED).all()
    assert sample.clear is None and sample.cloud is None


def test_an_index_may_name_clear_images_and_cloud_masks(tmp_path):
    data = open_map_dataset(tiny_map_index(tmp_path / "maps", extra=True), classes=CLASSES)
    assert data.has_cloud_masks
    sample = data.sample(1)
    assert (sample.optical[:, sample.cloud] == 8000).all()
    assert (sample.optical[:, ~sample.cloud] == sample.clear[:, ~sample.cloud]).all()


@pytest.mark.parametrize("moved", ["mask", "clear", "cloud_mask"])
def test_whatever_lies_elsewhere_than_its_pair_is_refused(tmp_path, moved):
    pixels = {"optical": np.ones((13, 64, 64), np.uint16), "sar": np.ones((2, 64, 64), np.float32)}
    pixels |= {"clear": pixels["optical"], "mask": np.zeros((1, 64, 64), np.uint8)}
    pixels |= {"cloud_mask": pixels["mask"]}

    def sample():
        return open_map_dataset(tmp_path / "index.csv", classes=CLASSES).sample(0)

    for name, image in pixels.items():
        rasters.write_raster(tmp_path / f"{name}.tif", image)
    files = ",".join(f"{name}.tif" for name in pixels)
    (tmp_path / "index.csv").write_text(f"{','.join(pixels)},group,split\n{files},a,train\n")
    assert (sample().target == 0).all()
    elsewhere = north_up(500_640.0, 4_600_000.0, 10, 10)
    rasters.write_raster(tmp_path / f"{moved}.tif", pixels[moved], transform=elsewhere)
    with pytest.raises(RasterError, match="64 pixels apart"):
        sample()


def test_an_index_that_does_not_fit_is_refused(tmp_path):
    where = tiny_map_index(tmp_path / "maps")
    text = where.read_text()
    cases = {
        "both target and mask": text.replace("mask,group", "mask,target,group"),
        "columns .*, expected optical, sar, label": text.replace("mask", "masks"),
        "place-0' is in splits": text.replace("place-3,", "place-0,"),
    }
    for words, changed in cases.items():
        where.write_text(changed)
        with pytest.raises(InputError, match=words):
            open_map_dataset(where, classes=CLASSES)
    where.write_text(text)
    with pytest.raises(InputError, match="holds class 1, expected 0 to 0"):
        open_map_dataset(where, classes=("land",)).sample(0)
    np.save(where.parent / "mask-0.npy", np.zeros((64, 64), np.float32))
    with pytest.raises(RasterError, match="expected integer class numbers"):
        open_map_dataset(where, classes=CLASSES).sample(0)


def test_codes_beyond_a_byte_do_not_count():
    assert class_numbers(np.array([-1, 300, 10]), {10: 2}).tolist() == [IGNORED, IGNORED, 2]


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="data set is 'nowhere:x', expected ombria:FOLDER"):
        open_map_dataset("nowhere:x")


# --- real sets -----------------------------------------------------------------------------------


@pytest.mark.data
def test_ombria_is_judged_on_the_same_floods_as_its_chips_whatever_the_seed(sample_data):
    where = f"ombria:{sample_data / 'ombria'}"
    found = [open_map_dataset(where, seed) for seed in range(3)]
    judged = [{g for g, s in zip(d.groups, d.splits, strict=True) if s == "test"}
              for d in (*found, open_dataset(where))]  # fmt: skip
    assert len(judged[0]) == 5 and all(other == judged[0] for other in judged)
    data = found[0]
    homes = {(group, split) for group, split in zip(data.groups, data.splits, strict=True)}
    assert len(data) == 226 and len(homes) == len(set(data.groups)) == 13
    assert {split for _, split in homes} == {"train", "val", "test"}
    sample = data.sample(0)
    assert sample.optical.shape == (3, 256, 256) and set(np.unique(sample.target)) <= {0, 1}


@pytest.mark.data
def test_terramesh_is_only_judged_on_and_freed_of_the_newer_offset(sample_data):
    data = open_map_dataset(f"terramesh:{sample_data / 'terramesh'}")
    assert data.splits == ("test",) * 5
    darkest = [int(data.sample(i).optical.min()) for i in range(5)]
    assert max(darkest) < 100
    snow = data.sample(3).target
    assert (snow == data.classes.index("snow")).mean() > 0.5


@pytest.mark.data
def test_the_chip_of_sen1floods11_counts_where_a_hand_has_labeled_it(sample_data):
    data = open_map_dataset(f"sen1floods11:{sample_data / 'sen1floods11'}")
    assert (len(data), data.groups, data.splits) == (1, ("Spain",), ("test",))
    sample = data.sample(0)
    assert sample.optical.shape == (13, 512, 512) and sample.sar.shape == (2, 512, 512)
    assert set(np.unique(sample.target)) <= {0, 1, IGNORED} and (sample.target == 1).any()
    assert -35 < np.nanmedian(sample.sar[0]) < 0


def test_sen1floods11_is_split_by_country_and_lacks_what_has_one_image(tmp_path):
    for name in ("Ghana_1", "Ghana_2", "India_1", "Mali_1", "Mali_2", "Peru_1", "Peru_2"):
        label = np.array([[-1, 0], [1, 1]], np.int16)[None]
        write_raster(tmp_path / "Labels" / f"{name}_LabelHand.tif", label)
        write_raster(tmp_path / "S2" / f"{name}_S2Hand.tif", np.full((13, 2, 2), -5, np.int16))
        if name != "Peru_2":
            write_raster(tmp_path / "S1" / f"{name}_S1Hand.tif", np.full((2, 2, 2), -9.0))
    data = open_map_dataset(f"sen1floods11:{tmp_path}")
    assert len(data) == 6 and set(data.splits) == {"train", "val", "test"}
    homes = {group: {s for g, s in zip(data.groups, data.splits, strict=True) if g == group}
             for group in data.groups}  # fmt: skip
    assert all(len(found) == 1 for found in homes.values())
    judged = [[s == "test" for s in open_map_dataset(f"sen1floods11:{tmp_path}", seed).splits]
              for seed in range(3)]  # fmt: skip
    assert judged[0] == judged[1] == judged[2]
    sample = data.sample(0)
    assert sample.target.tolist() == [[IGNORED, 0], [1, 1]] and (sample.optical == 0).all()
    with pytest.raises(InputError, match="no chip in .*, expected Labels"):
        open_map_dataset(f"sen1floods11:{tmp_path / 'S1'}")


def test_simulated_landscapes_are_named_so_and_repeat():
    data = open_map_dataset("simulated:3")
    assert data.simulated == ("optical", "sar") and data.name == "simulated landscapes"
    one, other = data.sample(0), open_map_dataset("simulated:3").sample(0)
    assert (one.optical == other.optical).all() and one.target.shape == one.size
    assert (open_map_dataset("simulated:4").sample(0).target != one.target).any()
    with pytest.raises(InputError, match="seed of the simulated landscapes is 'x'"):
        open_map_dataset("simulated:x")
