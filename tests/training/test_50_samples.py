"""Samples: what a stage receives, deterministic and through the runtime's preprocessing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS as BANDS
from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.training.datasets import MemoryDataset
from esccs_edge.training.samples.degraded import Degradation, DegradedPairs
from esccs_edge.training.samples.samples import CloudySamples
from esccs_edge.training.samples.specs import modality_specs

N = 60


def tiny_dataset(*, sar: str = "simulated", dtype=np.uint16) -> MemoryDataset:
    rng = np.random.default_rng(0)
    spectrum = np.array([1200, 900, 800, 500, 900, 2500, 3200, 3100, 3400, 900, 12, 1600, 700])
    optical = (spectrum[:, None, None] * rng.uniform(0.8, 1.2, (N, 13, 16, 16))).astype(dtype)
    sars = rng.normal(-12, 3, (N, 2, 16, 16)).astype(np.float32) if sar == "real" else None
    return MemoryDataset(
        name="tiny", classes=("Forest", "Pasture"), labels=np.arange(N) % 2,
        groups=tuple(map(str, range(N))), splits=("train",) * 40 + ("val",) * 10 + ("test",) * 10,
        optical_channels=BANDS, sar_channels=("VV", "VH") if sar == "real" else (),
        opticals=optical, sars=sars,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dataset() -> MemoryDataset:
    return tiny_dataset()


@pytest.fixture(scope="module")
def specs(dataset):
    return modality_specs(dataset)


TRAINING = Degradation(augment=True, clear_share=0.2, drop_share=0.3, sar="from class")


def make(dataset, specs, split="train", degradation=TRAINING, seed=0) -> CloudySamples:
    return CloudySamples(dataset, split, *specs, degradation, seed)


def test_item_has_the_promised_tensors(dataset, specs):
    item = make(dataset, specs)[0]
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in item.items()}
    assert shapes == {
        "clear": ((13, 16, 16), torch.float32),
        "optical": ((13, 16, 16), torch.float32),
        "sar": ((2, 16, 16), torch.float32),
        "availability": ((2,), torch.float32),
        "label": ((), torch.int64),
        "cover": ((), torch.float32),
        "reliability": ((), torch.float32),
        "index": ((), torch.int64),
    }


def assert_same(first, second) -> None:
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_items_depend_on_seed_epoch_and_index_alone(dataset, specs):
    samples, again = make(dataset, specs), make(dataset, specs)
    for position in (7, 3, 7):
        assert_same(samples[position], again[position])
    first = samples[3]
    samples.set_epoch(1)
    assert not torch.equal(samples[3]["optical"], first["optical"])
    samples.set_epoch(0)
    assert_same(samples[3], first)
    other = make(dataset, specs, seed=1)[3]
    assert not torch.equal(other["optical"], first["optical"])


def test_worker_processes_give_the_same_items_and_see_a_new_epoch(dataset, specs):
    samples = make(dataset, specs, split="val")
    loader = torch.utils.data.DataLoader(samples, batch_size=5, num_workers=1,
                                         persistent_workers=True)  # fmt: skip
    for epoch in (0, 1):
        samples.set_epoch(epoch)
        batch = next(iter(loader))
        for row in range(5):
            assert torch.equal(batch["optical"][row], samples[row]["optical"])


def test_sar_does_not_depend_on_the_clouds(dataset):
    covers = (0.0, 0.4, 1.0, "stratified")
    drawn = [
        DegradedPairs(dataset, "test", Degradation(cover=cover, sar="from pixels")).get(4)
        for cover in covers
    ]
    for pair in drawn[1:]:
        np.testing.assert_array_equal(pair.sar, drawn[0].sar)
        np.testing.assert_array_equal(pair.clear, drawn[0].clear)
    assert (drawn[1].optical != drawn[2].optical).any()


def shuffled(dataset: MemoryDataset) -> MemoryDataset:
    return replace(dataset, labels=1 - dataset.labels)


def test_only_sar_from_the_class_depends_on_the_label(dataset):
    other = shuffled(dataset)
    for source, is_equal in (("from pixels", True), ("from class", False)):
        degradation = Degradation(cover=0.0, sar=source)
        first, second = (DegradedPairs(d, "test", degradation).get(2) for d in (dataset, other))
        assert first.sar.shape == (2, 16, 16) and (first.label, second.label) == (0, 1)
        assert np.array_equal(first.sar, second.sar) == is_equal
    absent = DegradedPairs(dataset, "test", Degradation()).get(2)
    assert absent.sar is None


def test_unlabeled_pairs_get_sar_from_their_pixels(dataset):
    unknown = replace(dataset, labels=np.full(N, -1))
    pairs = [
        DegradedPairs(d, "train", Degradation(cover=0.0, sar=source)).get(5)
        for d, source in ((unknown, "from class"), (dataset, "from pixels"))
    ]
    np.testing.assert_array_equal(pairs[0].sar, pairs[1].sar)


def test_normalization_is_the_one_of_the_runtime(dataset, specs):
    samples = make(dataset, specs, split="test", degradation=Degradation(cover=0.5))
    pair = samples.pairs.get(2)
    out = np.empty((1, 13, 16, 16), np.float32)
    preprocess([np.ascontiguousarray(pair.optical)], specs[0], out)
    np.testing.assert_array_equal(samples[2]["optical"].numpy(), out[0])


def test_dropped_modality_is_absent_in_training_only(dataset, specs):
    samples = make(dataset, specs, degradation=Degradation(drop_share=1.0, sar="from class"))
    seen = set()
    for position in range(20):
        item = samples[position]
        seen.add(tuple(item["availability"].tolist()))
        for name, available in zip(("optical", "sar"), item["availability"], strict=True):
            assert bool(item[name].any()) == bool(available)
        if not item["availability"][0]:
            assert item["reliability"] == 0.0
        assert item["clear"].any()
    assert seen == {(0.0, 1.0), (1.0, 0.0)}


def test_clear_share_is_exactly_clear(dataset, specs):
    samples = make(dataset, specs, degradation=Degradation(clear_share=0.5))
    covers = np.array([float(samples[i]["cover"]) for i in range(40)])
    assert 8 <= (covers == 0).sum() <= 32
    clear = int(np.flatnonzero(covers == 0)[0])
    assert torch.equal(samples[clear]["optical"], samples[clear]["clear"])
    cloudy = int(np.flatnonzero(covers > 0.2)[0])
    assert not torch.equal(samples[cloudy]["optical"], samples[cloudy]["clear"])


def test_stratified_cover_fills_the_bins_of_every_class_alike(dataset):
    pairs = DegradedPairs(dataset, "train", Degradation(cover="stratified"))
    found = np.zeros((2, len(CLOUD_BINS)), int)
    for position in range(len(pairs)):
        pair = pairs.get(position)
        found[pair.label, min(int(pair.cover * len(CLOUD_BINS)), len(CLOUD_BINS) - 1)] += 1
    assert found.min() >= 3 and found.max() <= 5  # 20 pairs a class, four in each of five bins


def test_reliability_falls_with_cover(dataset, specs):
    samples = make(dataset, specs, degradation=Degradation())
    items = [samples[i] for i in range(40)]
    cover = np.array([float(item["cover"]) for item in items])
    reliability = np.array([float(item["reliability"]) for item in items])
    assert np.corrcoef(cover, reliability)[0, 1] < -0.9


def test_real_sar_turns_with_its_optical_partner():
    dataset = tiny_dataset(sar="real")
    dataset.opticals[:, 0] = (dataset.sars[:, 0] * 10 + 2000).astype(np.uint16)
    pairs = DegradedPairs(dataset, "train", Degradation(cover=0.0, augment=True))
    for position in range(12):
        pair = pairs.get(position)
        assert np.corrcoef(pair.optical[0].ravel(), pair.sar[0].ravel())[0, 1] > 0.95


def test_specs_are_the_statistics_of_clear_and_cloudy_training_pixels(dataset, specs):
    optical, sar = specs
    assert optical.channels == BANDS and sar.channels == ("VV", "VH")
    assert optical.dn_scale == 1e-4 and optical.level == "L1C" and sar.unit == "dB"
    clear = dataset.opticals[:40].mean(axis=(0, 2, 3)) * 1e-4
    assert (np.array(optical.mean)[1:9] > clear[1:9]).all()  # clouds raise every visible mean
    samples = make(dataset, specs, degradation=Degradation(clear_share=0.5))
    stack = torch.stack([samples[i]["optical"] for i in range(40)])
    assert stack.mean(dim=(0, 2, 3)).abs().max() < 0.05
    assert (stack.std(dim=(0, 2, 3)) - 1).abs().max() < 0.05


def test_specs_never_look_at_held_out_pairs(dataset, specs):
    altered = tiny_dataset()
    altered.opticals[40:] = 30_000
    assert modality_specs(altered) == specs


@pytest.mark.data
def test_ombria_pictures_get_a_contract_of_their_own(sample_data):
    from esccs_edge.training.datasets import open_dataset

    pytest.importorskip("rasterio")
    dataset = open_dataset(f"ombria:{sample_data / 'ombria'}")
    optical, sar = modality_specs(dataset)
    assert optical.unit == sar.unit == "dn" and optical.nodata is None
    item = CloudySamples(dataset, "test", optical, sar, Degradation(cover=0.5))[0]
    assert item["optical"].shape == (3, 64, 64) and item["sar"].shape == (1, 64, 64)
    assert float(item["cover"]) == pytest.approx(0.5, abs=0.01)
    assert item["availability"].tolist() == [1.0, 1.0]


def test_draws_repeat_after_their_number_and_are_kept(dataset, specs):
    fresh = CloudySamples(dataset, "train", *specs, Degradation(), seed=3)
    kept = CloudySamples(dataset, "train", *specs, Degradation(), seed=3, draws=2)
    for epoch in (0, 1, 2, 3):
        kept.set_epoch(epoch)
        fresh.set_epoch(epoch % 2)
        assert torch.equal(kept[1]["optical"], fresh[1]["optical"])
    assert kept[1] is kept[1]
