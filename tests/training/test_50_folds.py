"""Folds by place: each place is held out once, and a run may hold out nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.errors import InputError
from esccs_edge.rasters.pair_index import read_index
from esccs_edge.training.datasets import indices_of, open_dataset
from esccs_edge.training.datasets.splits import folds_by_group, place_splits
from esccs_edge.training.options_file import options_from
from esccs_edge.training.run import train
from esccs_edge.training.samples.fold import FoldDataset
from esccs_edge.training.scene_options import FoldOptions


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 4), groups=st.integers(6, 30),
       folds=st.integers(2, 6))  # fmt: skip
def test_folds_keep_groups_whole_and_are_of_like_size(seed, classes, groups, folds):
    labels = np.tile(np.arange(classes), groups)
    names = [f"g{g}" for g in np.repeat(np.arange(groups), classes)]
    found = folds_by_group(labels, names, folds, seed)
    for name in set(names):
        assert len(set(found[np.array(names) == name])) == 1
    sizes = np.bincount(found, minlength=folds)
    assert sizes.min() > 0 and sizes.max() - sizes.min() <= 2 * classes
    np.testing.assert_array_equal(found, folds_by_group(labels, names, folds, seed))


def test_folds_of_pairs_without_labels_are_of_like_size():
    groups = [name for name, count in zip("abcdef", (48, 16, 16, 80, 48, 32), strict=True)
              for _ in range(count)]  # fmt: skip
    found = folds_by_group(np.full(240, -1), groups, 6)
    assert sorted(np.bincount(found)) == [16, 16, 32, 48, 48, 80]  # each place is a fold
    halves = np.bincount(folds_by_group(np.full(240, -1), groups, 2))
    assert sorted(halves) == [112, 128]


def test_more_folds_than_groups_are_refused():
    with pytest.raises(InputError, match="3 groups make no 4 folds"):
        folds_by_group(np.zeros(9, np.int64), list("aaabbbccc"), 4)


def test_fewer_places_that_train_are_some_of_more_and_never_those_held_out():
    groups, held_out = list("ffabcdeab"), {"b", "e"}
    training = []
    for count in (1, 2, 3, 4):
        split_of = dict(place_splits(groups, held_out, count, seed=5))
        assert {place for place, split in split_of.items() if split == "test"} == held_out
        training.append(set(groups) - split_of.keys())
        assert len(training[-1]) == count
    assert all(fewer < more for fewer, more in zip(training, training[1:], strict=False))
    assert place_splits(groups, held_out, 0, seed=5) == (("b", "test"), ("e", "test"))
    orders = {place_splits(groups, held_out, 1, seed=seed) for seed in range(8)}
    assert len(orders) > 1
    with pytest.raises(InputError, match="5 places are to train, expected at most 4"):
        place_splits(groups, held_out, 5, seed=5)


def test_options_refuse_folds_that_are_not_there():
    for count, held_out in ((4, 4), (0, 1), (-1, 0), (4, -1)):
        with pytest.raises(InputError, match="count|held_out"):
            FoldOptions(count, held_out)
    assert FoldOptions(4, 3).held_out == 3 and FoldOptions().count == 0


@pytest.mark.data
def test_folds_of_eurosat_hold_all_classes_each(sample_data):
    dataset = open_dataset(f"eurosat:{sample_data / 'eurosat-ms'}")
    assert set(FoldDataset(dataset, FoldOptions(1), 0).splits) == {"train"}
    for fold in range(5):
        held = FoldDataset(dataset, FoldOptions(5, fold), 0)
        found = indices_of(held, "test")
        counts = np.bincount(held.labels[found], minlength=10)
        assert abs(len(found) - 157) < 12 and counts.min() >= 8
        assert not {held.groups[i] for i in found} & {
            held.groups[i] for i in indices_of(held, "train")
        }


def test_a_run_holds_out_its_fold(tmp_path):
    data = tiny_index(tmp_path / "data", 24)
    document = tiny_document(data, tmp_path / "run", epochs=1, folds={"count": 4, "held_out": 1})
    provenance = train(options_from(document)).manifest.provenance
    assert provenance["data"]["pairs"] == {"train": 18, "test": 6}
    assert provenance["options"]["folds"]["held_out"] == 1
    assert provenance["metrics"]["test"]["student"]["overall"]["n"] == 30


def test_a_run_that_trains_on_everything_is_not_judged(tmp_path):
    data = tiny_index(tmp_path / "data", 24)
    document = tiny_document(data, tmp_path / "run", epochs=1, folds={"count": 1}, temperature=1.5)
    manifest = train(options_from(document)).manifest
    assert manifest.provenance["data"]["pairs"] == {"train": 24}
    assert "measures no accuracy" in manifest.provenance["data"]["split"]
    assert manifest.temperature == 1.5
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert not {"val", "test"} & metrics.keys()
    rows = read_index(tmp_path / "run" / "heldout" / "index.csv").rows
    assert len(rows) == 24 and {row.split for row in rows} == {"val"}
