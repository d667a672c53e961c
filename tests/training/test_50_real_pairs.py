"""Truly cloudy pairs beside a labeled data set: what is drawn of them, and how they are joined."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS as BANDS
from esccs_edge.contracts.types import Array
from esccs_edge.training.datasets import MemoryDataset
from esccs_edge.training.samples.degraded import Degradation, DegradedPairs
from esccs_edge.training.samples.epoch_samples import JoinedSamples
from esccs_edge.training.samples.samples import CloudySamples
from esccs_edge.training.samples.specs import modality_specs

N, CLOUD_DN = 12, 6000


@dataclasses.dataclass(frozen=True)
class CloudyPairs(MemoryDataset):
    """Pairs whose right half is cloud; the clear images are known."""

    clears: Array | None = None

    @property
    def covers(self):
        return np.full(len(self), 0.5)

    def clear(self, index: int) -> Array:
        return self.clears[index]


def cloudy_pairs() -> CloudyPairs:
    rng = np.random.default_rng(0)
    clears = rng.integers(300, 3000, (N, 13, 16, 16)).astype(np.uint16)
    cloudy = clears.copy()
    cloudy[..., 8:] = CLOUD_DN
    return CloudyPairs(
        name="real", classes=("a", "b"), labels=np.full(N, -1), groups=tuple("pq" * (N // 2)),
        splits=("train",) * N, optical_channels=BANDS, sar_channels=("VV", "VH"),
        opticals=cloudy, sars=rng.normal(-12, 3, (N, 2, 16, 16)).astype(np.float32), clears=clears,
    )  # fmt: skip


def labeled_pairs() -> MemoryDataset:
    rng = np.random.default_rng(1)
    return MemoryDataset(
        name="labeled", classes=("a", "b"), labels=np.arange(20) % 2,
        groups=tuple(map(str, range(20))), splits=("train",) * 20, optical_channels=BANDS,
        sar_channels=(), opticals=rng.integers(300, 3000, (20, 13, 16, 16)).astype(np.uint16),
        sars=None,
    )  # fmt: skip


def test_a_real_pair_shows_its_own_clouds_and_keeps_its_clear_image():
    dataset = cloudy_pairs()
    pair = DegradedPairs(dataset, "train", Degradation(cover=0.0)).get(3)
    np.testing.assert_array_equal(pair.optical, dataset.opticals[3])
    np.testing.assert_array_equal(pair.clear, dataset.clears[3])
    np.testing.assert_array_equal(pair.sar, dataset.sars[3])
    assert (pair.cover, pair.label) == (0.5, -1)


def test_a_share_of_the_draws_shows_the_clear_image():
    pairs = DegradedPairs(cloudy_pairs(), "train", Degradation(cover=0.0, clear_share=0.3))
    drawn = [pairs.get(i, epoch) for epoch in range(30) for i in range(N)]
    clear = [pair.optical is pair.clear for pair in drawn]
    assert 0.2 < np.mean(clear) < 0.4
    assert {pair.cover for pair, is_clear in zip(drawn, clear, strict=True) if is_clear} == {0.0}


def test_augmentation_changes_all_images_of_a_place_alike():
    """Where there is no cloud, the cloudy and the clear image show the same ground."""
    dataset = cloudy_pairs()
    pairs = DegradedPairs(dataset, "train", Degradation(cover=0.0, augment=True))
    for epoch in range(8):
        pair = pairs.get(0, epoch)
        same = (pair.optical == pair.clear).all(axis=0)
        assert same.mean() == pytest.approx(0.5)
        changed = not np.array_equal(
            np.sort(pair.clear.ravel()), np.sort(dataset.clears[0].ravel())
        )
        assert changed


def test_joined_samples_follow_one_another_and_share_the_epoch():
    labeled, real = labeled_pairs(), cloudy_pairs()
    specs = modality_specs(labeled, real=real)
    degradation = Degradation(augment=True)
    parts = [CloudySamples(d, "train", *specs, degradation) for d in (labeled, real)]
    joined = JoinedSamples([(parts[0], len(labeled)), (parts[1], len(real))])
    assert len(joined) == 32
    joined.set_epoch(2)
    assert torch.equal(joined[5]["optical"], parts[0].draw(5, 2)["optical"])
    assert torch.equal(joined[25]["optical"], parts[1].draw(5, 2)["optical"])
    assert [int(joined[i]["index"]) for i in (0, 19, 20, 31)] == [0, 19, 20, 31]
    assert [int(joined[i]["label"]) for i in (1, 20)] == [1, -1]
    with pytest.raises(IndexError):
        joined[32]


def test_the_contracts_are_measured_on_the_real_pairs_too():
    labeled, real = labeled_pairs(), cloudy_pairs()
    alone, both = modality_specs(labeled)[1], modality_specs(labeled, real=real)[1]
    assert alone.mean != both.mean
