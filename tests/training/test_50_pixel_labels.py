"""Class maps made of patches: mosaics, and a patch classifier that looks everywhere."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.contracts.values import Gate, Prediction
from esccs_edge.training.datasets.dataset import MemoryDataset
from esccs_edge.training.datasets.map_dataset import IGNORED
from esccs_edge.training.datasets.pixel_labels import REPEATS, SIDE, dense_labels, mosaics

CLASSES = ("Forest", "SeaLake")


def patches(count=40, edge=16):
    """Patches whose pixels are their number; the first half trains."""
    labels = np.arange(count) % 2
    opticals = np.broadcast_to(
        np.arange(1, count + 1, dtype=np.uint16)[:, None, None, None], (count, 13, edge, edge)
    )
    return MemoryDataset(
        name="numbered", classes=CLASSES, labels=labels, groups=tuple(map(str, range(count))),
        splits=("train",) * 20 + ("test",) * 20, optical_channels=SENTINEL2_L1C_BANDS,
        sar_channels=(), opticals=opticals, sars=None,
    )  # fmt: skip


def test_each_pixel_of_a_mosaic_has_the_class_of_its_patch():
    scenes = list(mosaics(patches()))
    assert len(scenes) == 2 * (20 * REPEATS // SIDE**2)
    for scene in scenes:
        numbers = scene.pixels["optical"][0].astype(int) - 1
        np.testing.assert_array_equal(scene.target, numbers % 2)
        assert ((numbers < 20) == (scene.split == "train")).all()
        assert scene.pixels["sar"].shape == (2, *numbers.shape) and scene.simulated == ("sar",)
    assert {scene.split for scene in scenes} == {"train", "test"}


def test_sar_that_judges_does_not_know_the_classes():
    known = patches()
    other = dataclasses.replace(known, labels=1 - known.labels)
    for scene, relabeled in zip(mosaics(known), mosaics(other), strict=True):
        assert (scene.target != relabeled.target).all()
        same = (scene.pixels["sar"] == relabeled.pixels["sar"]).all()
        assert same == (scene.split != "train")


class Looks:
    """Says "Forest" as sure as the share of its patch that is bright."""

    manifest = SimpleNamespace(sample=SimpleNamespace(height=16), classes=CLASSES)

    def classify_batch(self, opticals, sars):
        shares = [float(optical[0].mean()) for optical in opticals]
        return [
            Prediction("Forest", p, {"Forest": p, "SeaLake": 1 - p}, Gate(1.0, 0.0)) for p in shares
        ]


def test_the_mean_of_all_windows_over_a_spot_is_its_class():
    optical, sar = np.zeros((13, 48, 40), np.float32), np.zeros((2, 48, 40), np.float32)
    optical[:, :24] = 1
    found = dense_labels(Looks(), optical, sar, stride=8)
    np.testing.assert_array_equal(found, np.repeat([0, 1], 3)[:, None].repeat(5, 1))


def test_where_nothing_is_likely_nothing_counts():
    class Unsure(Looks):
        manifest = SimpleNamespace(sample=SimpleNamespace(height=16), classes=("a", "b", "c"))

        def classify_batch(self, opticals, sars):
            even = dict.fromkeys("abc", 1 / 3)
            return [Prediction("a", 1 / 3, even, Gate(1.0, 0.0)) for _ in opticals]

    images = np.zeros((13, 24, 24)), np.zeros((2, 24, 24))
    assert (dense_labels(Unsure(), *images) == IGNORED).all()
