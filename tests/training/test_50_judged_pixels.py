"""What judges a run never knows the label: pixels of judged pairs do not move with the labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_data import tiny_document, tiny_pair

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.rasters.pair_index import read_index
from esccs_edge.training.datasets import MemoryDataset, open_dataset
from esccs_edge.training.datasets.stored_samples import write_samples
from esccs_edge.training.judging.evaluate import evaluate
from esccs_edge.training.judging.held_out_pairs import held_out_pairs
from esccs_edge.training.judging.judge import held_out, judge
from esccs_edge.training.options_file import options_from
from esccs_edge.training.stages.scene_classification.run import SceneRun

CLASSES = ("Forest", "River", "SeaLake")
N = 48


def optical_only() -> MemoryDataset:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 3
    return MemoryDataset(
        name="bare", classes=CLASSES, labels=labels, groups=tuple(map(str, range(N))),
        splits=tuple(("train", "train", "val", "test")[i // 3 % 4] for i in range(N)),
        optical_channels=SENTINEL2_L1C_BANDS, sar_channels=(),
        opticals=np.stack([tiny_pair(k, rng)[0] for k in labels]), sars=None,
    )  # fmt: skip


def held_out_relabeled(dataset: MemoryDataset) -> MemoryDataset:
    """The same pixels with the labels of the held-out pairs moved on by one class."""
    judged = np.array(dataset.splits) != "train"
    return replace(dataset, labels=np.where(judged, (dataset.labels + 1) % 3, dataset.labels))


@pytest.fixture
def runs(tmp_path: Path) -> tuple[SceneRun, SceneRun]:
    options = options_from(tiny_document(Path("x"), tmp_path, epochs=1))
    dataset = optical_only()
    return tuple(  # type: ignore[return-value]
        SceneRun.open(options, d, tmp_path) for d in (dataset, held_out_relabeled(dataset))
    )


def pixels(run: SceneRun, split: str) -> Iterator[torch.Tensor]:
    for part in held_out(run, split):
        for position in range(len(part)):
            yield part[position]["optical"]
            yield part[position]["sar"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_networks_of_a_run_are_judged_on_pixels_that_do_not_know_the_label(runs, split):
    for first, second in zip(*(pixels(run, split) for run in runs), strict=True):
        assert torch.equal(first, second) and first.any()

    def predict(batch):  # any function of the pixels will do
        return torch.softmax(batch["sar"].mean(dim=(2, 3)) @ torch.ones(2, 3).cumsum(1), dim=1)

    answers = [judge(predict, held_out(run, split)).probabilities for run in runs]
    np.testing.assert_array_equal(*answers)


def test_held_out_files_hold_no_sar_that_knows_the_label(runs):
    for first, second in zip(*(held_out_pairs(run) for run in runs), strict=True):
        assert first.target != second.target and first.simulated[0] == "sar"
        np.testing.assert_array_equal(first.pixels["sar"], second.pixels["sar"])
        if first.split == "val":  # test pairs get their cover by class, so that bins are even
            np.testing.assert_array_equal(first.pixels["optical"], second.pixels["optical"])


def test_training_pairs_learn_from_sar_of_their_class(runs):
    run = runs[0]
    relabeled = replace(run.dataset, labels=(run.dataset.labels + 1) % 3)
    other = SceneRun.open(run.options, relabeled, run.folder)
    item, changed = run.cloudy_samples()[0], other.cloudy_samples()[0]
    assert torch.equal(item["optical"].isnan(), changed["optical"].isnan())
    assert not torch.equal(item["sar"], changed["sar"])


def test_evaluation_of_held_out_files_says_what_in_them_is_simulated(runs, tmp_path):
    from support.tiny import tiny_bundle

    from esccs_edge.classifier import Classifier

    index = write_samples(tmp_path / "held", ("optical", "sar"), held_out_pairs(runs[0]))
    assert {row.simulated for row in read_index(index).rows} == {("sar", "clouds")}
    bundle = tiny_bundle(tmp_path / "bundle")
    dataset = open_dataset(index, manifest=bundle.manifest)
    assert dataset.simulated == ("clouds", "sar")  # type: ignore[attr-defined]
    with Classifier(bundle, backend="cpu") as classifier:
        assert evaluate(classifier, dataset)["simulated"] == ["sar", "clouds"]
        assert evaluate(classifier, dataset, only="sar")["simulated"] == ["sar"]
