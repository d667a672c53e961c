"""Rehearsal: clear pairs of the source stand among those of the target, without SAR."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.errors import InputError
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.options_file import options_from
from esccs_edge.training.samples.epoch_samples import EpochSamples
from esccs_edge.training.samples.rehearsed import RehearsedSamples
from esccs_edge.training.stages.scene_classification.run import SceneRun


class Counted(EpochSamples):
    """Samples whose image says their number and epoch."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int):
        return {
            "optical": torch.tensor([position, int(self._epoch)]), "sar": torch.ones(2),
            "availability": torch.tensor([0.9, 0.8]), "label": torch.tensor(position),
        }  # fmt: skip


def test_an_epoch_holds_all_of_the_target_and_the_next_of_the_source():
    samples = RehearsedSamples(Counted(6), Counted(9), 0.4, seed=3)
    assert len(samples) == 6 + 4
    seen = []
    for epoch in range(9):
        samples.set_epoch(epoch)
        items = [samples[i] for i in range(len(samples))]
        assert [item["optical"].tolist() for item in items[:6]] == [[i, epoch] for i in range(6)]
        assert all(item["sar"].tolist() == [1, 1] for item in items[:6])
        seen += [int(item["optical"][0]) for item in items[6:]]
    assert np.bincount(seen).tolist() == [4] * 9  # 36 of 9: each as often as the others
    assert seen[:9] != sorted(seen[:9])


def test_the_source_is_shown_without_sar():
    samples = RehearsedSamples(Counted(2), Counted(3), 0.5, seed=0)
    item = samples[3]
    assert item["sar"].tolist() == [0, 0]
    torch.testing.assert_close(item["availability"], torch.tensor([0.9, 0.0]))


def opened(folder, **options: Any) -> SceneRun:
    document = tiny_document("", "", epochs=1, target_share=0.5, **options)
    dataset = open_dataset(str(tiny_index(folder / "a", 48)))
    return SceneRun.open(options_from(document), dataset, folder / "run")


def test_a_run_rehearses_the_labeled_pairs_and_never_labels_those_of_the_target(tmp_path):
    run = opened(tmp_path, rehearsal=0.5)
    samples = run.taught_samples()
    target, labels = len(run.cloudy_samples()), np.asarray(run.dataset.labels)
    items = [samples[i] for i in range(len(samples))]
    assert len(items) == 2 * target
    assert all(int(item["label"]) == -1 for item in items[:target])
    teacher = {int(i) for i in run.clear_labeled_samples().pairs.indices}
    for item in items[target:]:
        assert int(item["index"]) in teacher
        assert int(item["label"]) == labels[int(item["index"])]
        assert torch.equal(item["optical"], item["clear"])
    assert sum(len(batch["index"]) for batch in run.every_view()) == target


def test_without_rehearsal_a_run_learns_on_the_target_alone(tmp_path):
    run = opened(tmp_path)
    assert len(run.taught_samples()) == len(run.cloudy_samples())


def test_there_is_nothing_to_rehearse_without_a_target():
    with pytest.raises(InputError, match="option 'rehearsal' is 0.5, expected 0 where there is no"):
        options_from({"rehearsal": 0.5})
    with pytest.raises(InputError, match="option 'rehearsal' is 1.0, expected 0 or more, below 1"):
        options_from({"target_share": 0.5, "rehearsal": 1.0})
