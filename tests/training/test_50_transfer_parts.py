"""Source and target are different places; the target's labels stay hidden."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.errors import InputError
from esccs_edge.training.datasets import indices_of, open_source
from esccs_edge.training.options_file import options_from
from esccs_edge.training.samples.samples import Degradation
from esccs_edge.training.samples.transfer_parts import source_and_target
from esccs_edge.training.stages.chain import Chain


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(str(tiny_index(tmp_path_factory.mktemp("parts") / "a", 48)))


def test_parts_share_no_place_and_together_are_the_training_split(source):
    known, target = source_and_target(source, 0.5, seed=3)
    first, second = set(indices_of(known, "train")), set(indices_of(target, "train"))
    assert not first & second
    assert first | second == set(indices_of(source, "train"))
    assert abs(len(first) - len(second)) <= 4
    assert not {known.groups[i] for i in first} & {target.groups[i] for i in second}


def test_held_out_pairs_are_the_same_for_both_parts(source):
    for part in source_and_target(source, 0.5, seed=0):
        for split in ("val", "test"):
            assert np.array_equal(indices_of(part, split), indices_of(source, split))


def test_only_the_source_part_and_held_out_pairs_show_labels(source, tmp_path):
    chain = Chain(options_from(tiny_document("", "", target_share=0.5)), source, tmp_path)
    clear = Degradation(cover=0.0)
    assert all(item["label"] == -1 for item in map(chain.samples(clear).__getitem__, range(6)))
    for samples in (chain.source_samples(clear), chain.samples(clear, "test")):
        assert all(samples[i]["label"] >= 0 for i in range(len(samples)))


def test_a_target_share_of_one_is_refused():
    with pytest.raises(InputError, match="target_share"):
        options_from({"target_share": 1.0})
