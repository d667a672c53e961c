"""Windows of images with label maps, and what is done to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.tiny_maps import CLASSES, tiny_map

from esccs_edge.errors import InputError
from esccs_edge.training.datasets.map_dataset import IGNORED, MapSample, MemoryMaps, repeated
from esccs_edge.training.samples.map_samples import (
    DegradedMaps,
    MapDegradation,
    MapSamples,
    draw_gap,
)
from esccs_edge.training.samples.map_specs import map_specs
from esccs_edge.training.samples.windows import cut, label_steps, windows

CLEAR = MapDegradation(cover=0.0)


def dataset(size: int = 96, count: int = 3, **changes) -> MemoryMaps:
    rng = np.random.default_rng(0)
    samples = tuple(MapSample(*tiny_map(rng, size)) for _ in range(count))
    found = MemoryMaps(
        "tiny", CLASSES, tuple(f"place-{i}" for i in range(count)), ("train",) * count,
        ("B02", "B03", "B04", "B08"), ("VV", "VH"), samples,
    )  # fmt: skip
    return replace(found, **changes)


@pytest.mark.parametrize(("size", "labels", "crop"), [(100, 100, 64), (300, 90, 160), (64, 64, 64)])
def test_windows_show_every_pixel_of_the_label_map_once(size, labels, crop):
    numbers = np.arange(labels * labels).reshape(labels, labels) % 250
    image = repeated(numbers[None].astype(np.uint16), (size, size))
    sample = MapSample(image, None, numbers.astype(np.uint8))
    found = windows((size, size), crop, label_steps(sample), "x")
    seen = np.zeros(labels * labels, int)
    for window in found:
        part = cut(sample, window)
        assert part.optical.shape == (1, crop, crop)
        assert part.target.shape == (crop * labels // size,) * 2
        shown = repeated(part.target, (crop, crop))
        assert (part.optical[0][shown != IGNORED] == shown[shown != IGNORED]).all()
        steps = window.row * labels // size, window.column * labels // size
        rows, columns = np.nonzero(part.target != IGNORED)
        np.add.at(seen, (rows + steps[0]) * labels + columns + steps[1], 1)
    assert (seen == 1).all()


def test_images_that_do_not_fit_are_refused():
    for size, labels, crop, words in (
        (32, 32, 64, "32 x 32 pixels, expected at least 64"),
        (300, 90, 96, "'crop' is 96, expected a multiple of 10"),
    ):
        target = np.zeros((labels, labels), np.uint8)
        sample = MapSample(np.zeros((1, size, size), np.uint16), None, target)
        with pytest.raises(InputError, match=words):
            windows((size, size), crop, label_steps(sample), "tiny")
    with pytest.raises(InputError, match="expected the same, or fewer by one ratio"):
        label_steps(MapSample(np.zeros((1, 64, 64)), None, np.zeros((64, 32), np.uint8)))


def test_all_images_of_a_sample_are_turned_alike():
    field = np.arange(96 * 96, dtype=np.uint16).reshape(1, 96, 96) + 1
    cloud = (field[0] % 5 == 0) & (field[0] < 4000)
    sample = MapSample(field, field.astype(np.float32), field[0].astype(np.uint8), field, cloud)
    data = dataset(samples=(sample,) * 3, optical_channels=("B02",), sar_channels=("VV",),
                   has_cloud_masks=True)  # fmt: skip
    degradation = MapDegradation(cover=None, mask="files", cut_anywhere=True, turns=True)
    maps = DegradedMaps(data, "train", degradation, 64)
    turns = set()
    for epoch in range(12):
        found = maps.get(0, epoch).sample
        sar = found.sar[0].astype(int)
        assert (found.target == sar.astype(np.uint8)).all()
        assert (found.cloud == ((sar % 5 == 0) & (sar < 4000))).all()
        turns.add((sar[0, 1] - sar[0, 0], sar[1, 0] - sar[0, 0]))
    assert len(turns) > 3


def test_draws_depend_on_seed_epoch_and_place_alone():
    degradation = MapDegradation(cut_anywhere=True, turns=True, drop_share=0.5)
    one, other = (DegradedMaps(dataset(), "train", degradation, 64, 3) for _ in range(2))
    again = [one.get(2, 5) for _ in range(2)] + [other.get(2, 5)]
    for found in again[1:]:
        assert (found.sample.optical == again[0].sample.optical).all()
        assert found.lost == again[0].lost
    assert (one.get(2, 6).sample.optical != again[0].sample.optical).any()


def test_the_simulator_s_mask_says_where_clouds_were_laid():
    found = DegradedMaps(dataset(), "train", MapDegradation(cover=0.4), 96).get(0)
    sample = found.sample
    assert found.cover == sample.cloud.mean() == pytest.approx(0.4, abs=0.01)
    gained = sample.optical[0].astype(int) - sample.clear[0]
    assert gained[sample.cloud].mean() > 500 > abs(np.median(gained[~sample.cloud]))


def test_the_estimate_finds_an_opaque_cloud_without_the_simulator():
    optical, sar, target = tiny_map(np.random.default_rng(0), 96)
    optical[:, :48] = 7000
    data = dataset(samples=(MapSample(optical, sar, target),) * 3)
    found = DegradedMaps(data, "train", MapDegradation(cover=None, mask="estimate"), 96).get(0)
    assert found.sample.cloud[:40].mean() > 0.95 and found.sample.cloud[56:].mean() < 0.05
    assert not found.clouds_simulated


def test_masks_of_files_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="has no cloud masks, and option 'cloud_mask' is 'files'"):
        DegradedMaps(dataset(), "train", MapDegradation(cover=None, mask="files"), 64)


def test_a_lost_modality_keeps_its_pixels_for_the_teacher():
    data = dataset()
    optical, sar = map_specs(data, CLEAR, 96, 0)
    samples = MapSamples(
        DegradedMaps(data, "train", replace(CLEAR, drop_share=1.0), 96), optical, sar
    )
    lost = [samples[i] for i in range(3)]
    assert {tuple(item["availability"].tolist()) for item in lost} <= {(0.0, 1.0), (1.0, 0.0)}
    assert all(item["sar"].any() and item["optical"].any() for item in lost)
    full = MapSamples(DegradedMaps(data, "train", CLEAR, 96), optical, sar)[0]
    assert full["availability"].tolist() == [1.0, 1.0]
    assert full["optical"].mean().item() == pytest.approx(0, abs=0.5)


def test_a_gap_is_a_side_a_corner_or_a_strip():
    gaps = [draw_gap((96, 96), np.random.default_rng(seed)) for seed in range(200)]
    shares = np.array([gap.mean() for gap in gaps])
    assert 0.09 < shares.min() < 0.15 and 0.6 < shares.max() < 0.71
    corners = np.array([gap[::95, ::95].sum() for gap in gaps])
    assert set(corners.tolist()) >= {0, 1, 2, 3}
    for gap in gaps:  # between two straight lines: each row shows one run at most
        assert (np.abs(np.diff(gap.astype(int), axis=1)).sum(axis=1) <= 2).all()


def test_a_modality_lost_in_a_part_keeps_its_pixels_for_the_teacher():
    data = dataset()
    optical, sar = map_specs(data, CLEAR, 96, 0)
    maps = DegradedMaps(data, "train", replace(CLEAR, drop_share=0.5), 96)
    samples = MapSamples(maps, optical, sar)
    in_part = set()
    for epoch in range(30):
        found, item = maps.get(0, epoch), samples.draw(0, epoch)
        if found.gap is None:
            lost = [found.lost == name for name in ("optical", "sar")]
            assert (item["shown"].flatten(1).any(dim=1) != torch.tensor(lost)).all()
            assert item["availability"].tolist() == [1.0 - gone for gone in lost]
            continue
        number = ("optical", "sar").index(found.lost)
        assert (item["shown"][number].numpy() == ~found.gap).all()
        assert item["shown"][1 - number].all()
        assert item["availability"][number] == pytest.approx(1 - found.gap.mean(), abs=1e-6)
        assert item["availability"][1 - number] == 1
        assert item["sar"].any(dim=0).all() and item["optical"].any(dim=0).all()
        assert (item["target"] != IGNORED).all()  # the other modality sees the ground everywhere
        in_part.add(found.lost)
    assert in_part == {"optical", "sar"}


@pytest.mark.parametrize("whole", [True, False])
def test_the_label_is_ignored_where_no_modality_shows_the_ground(monkeypatch, whole):
    """Real nodata of one modality under what the student loses of the other."""
    samples = [list(tiny_map(np.random.default_rng(i), 96)) for i in range(3)]
    for images in samples:
        images[1][:, :40] = np.nan
    data = dataset(samples=tuple(MapSample(*images) for images in samples))
    optical, sar = map_specs(data, CLEAR, 96, 0)
    gap = np.zeros((96, 96), bool)
    gap[:, 60:] = True
    maps = DegradedMaps(data, "train", CLEAR, 96)
    one = replace(maps.get(0), lost="optical", gap=None if whole else gap)
    monkeypatch.setattr(maps, "get", lambda position, epoch=0: one)
    item = MapSamples(maps, optical, sar)[0]
    unseen = np.zeros((96, 96), bool)
    unseen[:40] = True if whole else gap[:40]
    assert ((item["target"] == IGNORED).numpy() == unseen).all()
    assert (item["target"].numpy()[~unseen] == samples[0][2][~unseen]).all()


def test_simulated_clouds_do_not_fill_pixels_without_data():
    samples = [list(tiny_map(np.random.default_rng(i), 96)) for i in range(3)]
    for images in samples:
        images[0][:, :, 70:] = 0
    data = dataset(samples=tuple(MapSample(*images) for images in samples))
    cloudy = MapDegradation(cover=0.9)
    optical, sar = map_specs(data, cloudy, 96, 0)
    item = MapSamples(DegradedMaps(data, "train", cloudy, 96), optical, sar)[0]
    there = item["optical"].any(dim=0)
    assert there[:, :70].all() and not there[:, 70:].any()
    assert (item["target"] != IGNORED).all()


def test_a_set_that_lacks_a_modality_is_refused():
    bare = tuple(replace(sample, sar=None) for sample in dataset().samples)
    with pytest.raises(InputError, match="tiny has no sar image, expected both"):
        map_specs(dataset(samples=bare), CLEAR, 96, 0)
