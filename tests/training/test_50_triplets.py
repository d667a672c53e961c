"""Real triplets: the three forms of SEN12MS-CR, their places, and the chips cut from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from support.sen12ms_cr_layout import write_npz, write_sen12ms_cr, write_tif

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.errors import InputError, RasterError
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.datasets.sen12ms_cr import open_sen12ms_cr, places_of
from esccs_edge.training.datasets.triplets import Chips, Corner

PUBLIC_IDS = "316 581 746 2266 2729 4065 4287 4294 4433 4438 5254 5278 5349 7264 7657".split()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    write_sen12ms_cr(tmp_path)
    return tmp_path


def test_published_folders_give_whole_triplets_by_scene(published):
    triplets = open_sen12ms_cr(published)
    assert len(triplets) == 6 and triplets.name == "SEN12MS-CR" and not triplets.has_masks
    assert triplets.ids[0] == "ROIs1158_spring_1_p202"
    assert triplets.groups == ("ROIs1158_spring/1",) * 2 + ("ROIs1158_spring/7",) * 2 + (
        "ROIs1970_fall/1",) * 2  # fmt: skip
    assert triplets.optical_channels == SENTINEL2_L1C_BANDS
    triplet = triplets.triplet(1)
    assert triplet.sar.dtype == np.float32 and triplet.sar.shape == (2, 16, 16)
    assert triplet.cloudy.dtype == triplet.clear.dtype == np.uint16 and triplet.cloud_mask is None
    names = {"sar": "s1", "cloudy": "s2_cloudy", "clear": "s2"}
    for field, sensor in names.items():
        name = f"ROIs1158_spring_{sensor}/{sensor}_1/ROIs1158_spring_{sensor}_1_p30.tif"
        with rasterio.open(published / name) as raster:
            np.testing.assert_array_equal(getattr(triplet, field), raster.read())


def test_missing_radar_pixels_stay_nan(published):
    assert np.isnan(open_sen12ms_cr(published).triplet(0).sar[:, 0, 0]).all()


def test_triplet_that_lacks_a_file_is_left_out(published):
    next(published.glob("ROIs1970_fall_s1/*/*p30.tif")).unlink()
    assert len(open_sen12ms_cr(published)) == 5


def test_files_on_different_grids_are_refused(published):
    path = next(published.glob("ROIs1970_fall_s1/*/*p30.tif"))
    write_tif(path, np.zeros((2, 8, 8), np.float32))
    with pytest.raises(RasterError, match="8 x 8"):
        open_sen12ms_cr(published).triplet(5)


def test_three_folders_with_equal_names(tmp_path):
    for folder, bands, kind in (("s1", 2, np.float32), ("s2_cloudy", 13, np.uint16),
                                ("s2_cloudfree", 13, np.uint16)):  # fmt: skip
        pixels = np.full((bands, 8, 8), len(folder), kind)
        write_tif(tmp_path / folder / "ROIs1970_fall_139_p839.tif", pixels)
    triplets = open_sen12ms_cr(tmp_path)
    assert triplets.groups == ("ROIs1970_fall/139",)
    triplet = triplets.triplet(0)
    assert triplet.cloudy.max() == len("s2_cloudy") and triplet.clear.max() == len("s2_cloudfree")


def test_cloud_masks_of_ones_own_give_the_cover(published):
    mask = np.zeros((1, 16, 16), np.uint8)
    mask[:, :, :4] = 1
    folder = published / "ROIs1970_fall_cloud_mask"
    write_tif(folder / "ROIs1970_fall_cloud_mask_1_p30.tif", mask)
    chips = Chips(open_sen12ms_cr(published), size=8, stride=8)
    assert chips.triplets.has_masks and np.isnan(chips.covers[:20]).all()
    assert chips.covers[20:].tolist() == [0.5, 0.0, 0.5, 0.0]  # the last, ROIs1970_fall_1_p30
    write_tif(folder / "ROIs1970_fall_cloud_mask_1_p30.tif", mask[:, :8, :8])
    with pytest.raises(RasterError, match=r"\(8, 8\), expected \(16, 16\)"):
        open_sen12ms_cr(published).triplet(5)


def test_npz_is_read_in_decibels_with_masks(tmp_path):
    arrays = write_npz(tmp_path / "triplets.npz", ["316", "581", "2266"])
    triplets = open_sen12ms_cr(tmp_path)
    assert triplets.groups == ("316-581", "316-581", "2266-2266") and triplets.has_masks
    triplet = triplets.triplet(2)
    np.testing.assert_allclose(triplet.sar, arrays["s1"][2] / 100, rtol=1e-6)
    np.testing.assert_array_equal(triplet.clear, arrays["clear"][2])
    assert triplet.cloud_mask is not None and triplet.cloud_mask.dtype == bool
    with pytest.raises(ValueError, match="read-only"):
        triplet.sar[0] = 0


def test_npz_may_name_its_places(tmp_path):
    write_npz(tmp_path / "t.npz", ["1", "2"], place=np.array(["north", "south"]), mask=None)
    triplets = open_sen12ms_cr(tmp_path / "t.npz")
    assert triplets.groups == ("north", "south") and not triplets.has_masks


def test_numbers_form_places_where_they_jump():
    assert list(dict.fromkeys(places_of(PUBLIC_IDS))) == [
        "316-746", "2266-2266", "2729-2729", "4065-4438", "5254-5349", "7264-7657"]  # fmt: skip
    assert places_of(["ROIs1970_fall_139_p839"]) == ("ROIs1970_fall/139",)
    with pytest.raises(InputError, match="'here'"):
        places_of(["here"])


def test_unfit_npz_is_refused(tmp_path):
    write_npz(tmp_path / "t.npz", ["1"], clear=None)
    with pytest.raises(InputError, match="lacks the arrays clear"):
        open_sen12ms_cr(tmp_path / "t.npz")
    content = bytearray((tmp_path / "t.npz").read_bytes())
    content[90:100] = b"\xff" * 10
    (tmp_path / "damaged.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*damaged\.npz"):
        open_sen12ms_cr(tmp_path / "damaged.npz")
    write_npz(tmp_path / "u.npz", ["1"], s1=np.zeros((1, 1, 16, 16), np.int16))
    with pytest.raises(RasterError, match=r"expected \(1, 2, 16, 16\)"):
        open_sen12ms_cr(tmp_path / "u.npz")
    for path in (tmp_path / "no", tmp_path / "no.npz"):
        with pytest.raises(InputError, match="neither a folder"):
            open_sen12ms_cr(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="none with all three files"):
        open_sen12ms_cr(tmp_path / "empty")


# --- chips --------------------------------------------------------------------------------------


@pytest.fixture
def chips(tmp_path: Path) -> Chips:
    write_npz(tmp_path / "triplets.npz", ["1", "1000"])
    return Chips(open_sen12ms_cr(tmp_path), size=8, stride=4)


def test_chips_show_the_same_ground_in_all_three_images(chips):
    assert len(chips) == 2 * 3 * 3 and chips.corners[4] == Corner(0, 4, 4)
    optical, sar = chips.pair(13)
    triplet = chips.triplets.triplet(1)
    assert optical is not None and sar is not None and chips.corners[13] == Corner(1, 4, 4)
    np.testing.assert_array_equal(optical, triplet.cloudy[:, 4:12, 4:12])
    np.testing.assert_array_equal(sar, triplet.sar[:, 4:12, 4:12])
    np.testing.assert_array_equal(chips.clear(13), triplet.clear[:, 4:12, 4:12])


def test_chips_take_cover_from_the_mask_and_place_from_the_triplet(chips):
    assert chips.covers[:3].tolist() == [1.0, 0.5, 0.0]
    assert chips.groups == ("1-1",) * 9 + ("1000-1000",) * 9
    assert (chips.labels == -1).all() and set(chips.splits) == {"train"}


def test_chips_without_masks_have_no_known_cover(tmp_path):
    write_npz(tmp_path / "t.npz", ["1"], mask=None)
    assert np.isnan(Chips(open_sen12ms_cr(tmp_path / "t.npz"), 8, 8).covers).all()


def test_labels_and_splits_are_set_on_a_copy(chips):
    labels = tuple(range(9)) * 2
    changed = replace(chips, classes=tuple("abcdefghi"), known_labels=labels,
                      place_splits=(("1000-1000", "test"),))  # fmt: skip
    assert changed.labels.tolist() == list(labels)
    assert changed.splits == ("train",) * 9 + ("test",) * 9
    with pytest.raises(InputError, match="3 labels for 18 chips"):
        replace(chips, known_labels=(0, 1, 2))


def test_chips_larger_than_the_triplets_are_refused(chips):
    with pytest.raises(InputError, match="16 x 16 pixels, expected 64 or more"):
        len(replace(chips, size=64))


@pytest.mark.data
def test_public_triplets_open_as_a_data_set(sample_data):
    chips: Any = open_dataset(f"sen12ms-cr:{sample_data / 'sen12ms-cr' / 'triplets.npz'}")
    assert len(chips) == 240 and chips.triplets.ids == tuple(PUBLIC_IDS)
    assert len(set(chips.groups)) == 6
    with np.load(sample_data / "sen12ms-cr" / "judge.npz") as judge:
        np.testing.assert_allclose(chips.covers, judge["cover"], atol=1e-6)
        assert [chips.triplets.ids[c.triplet] for c in chips.corners] == judge["id"].tolist()
        assert [c.row for c in chips.corners] == judge["row"].tolist()
    optical, sar = chips.pair(0)
    assert optical.shape == (13, 64, 64) and optical.dtype == np.uint16
    assert sar.shape == (2, 64, 64) and -45 < sar.min() < sar.max() < 10


@pytest.mark.data
def test_sample_triplet_folder_opens(sample_data):
    chips: Any = open_dataset(f"sen12ms-cr:{sample_data / 'sen12ms-cr' / 'triplet'}")
    assert len(chips) == 16 and set(chips.groups) == {"ROIs1970_fall/139"}
    assert np.isfinite(chips.pair(5)[1]).all()
