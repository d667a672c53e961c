"""Labeled part and target are different places; the target's labels stay hidden."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.errors import InputError
from esccs_edge.training.datasets import indices_of, open_dataset
from esccs_edge.training.options_file import options_from
from esccs_edge.training.samples.degraded import Degradation
from esccs_edge.training.samples.transfer_parts import labeled_and_target
from esccs_edge.training.stages.scene_classification.run import SceneRun


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(str(tiny_index(tmp_path_factory.mktemp("parts") / "a", 48)))


def test_parts_share_no_place_and_together_are_the_training_split(dataset):
    known, target = labeled_and_target(dataset, 0.5, seed=3)
    first, second = set(indices_of(known, "train")), set(indices_of(target, "train"))
    assert not first & second
    assert first | second == set(indices_of(dataset, "train"))
    assert abs(len(first) - len(second)) <= 4
    assert not {known.groups[i] for i in first} & {target.groups[i] for i in second}


def test_held_out_pairs_are_the_same_for_both_parts(dataset):
    for part in labeled_and_target(dataset, 0.5, seed=0):
        for split in ("val", "test"):
            assert np.array_equal(indices_of(part, split), indices_of(dataset, split))


def test_only_the_labeled_part_and_held_out_pairs_show_labels(dataset, tmp_path):
    options = options_from(tiny_document("", "", target_share=0.5))
    run = SceneRun.open(options, dataset, tmp_path)
    clear = Degradation(cover=0.0)
    assert all(item["label"] == -1 for item in map(run.samples(clear).__getitem__, range(6)))
    for samples in (run.labeled_samples(clear), run.samples(clear, "test")):
        assert all(samples[i]["label"] >= 0 for i in range(len(samples)))


def test_a_target_share_of_one_is_refused():
    with pytest.raises(InputError, match="target_share"):
        options_from({"target_share": 1.0})
