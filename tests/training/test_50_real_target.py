"""Benchmark B4: a labeled clear source, real unlabeled chips, whole places held out and judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sen12ms_cr_layout import write_npz
from support.tiny_data import CLASSES, tiny_document, tiny_pair

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.errors import InputError
from esccs_edge.rasters.pair_index import SampleRow, write_index
from esccs_edge.training.comparison.run import compare
from esccs_edge.training.datasets import MemoryDataset, indices_of, open_dataset
from esccs_edge.training.datasets.clear_judge import with_judge
from esccs_edge.training.options_file import options_from, read_options
from esccs_edge.training.samples.degraded import Degradation, DegradedPairs
from esccs_edge.training.samples.real_target import RealTargetDataset
from esccs_edge.training.samples.transfer_parts import labeled_and_unlabeled
from esccs_edge.training.scene_options import FoldOptions

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
IDS = ["1", "1000", "2000", "3000"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[str, str, str]:
    """Source, target of four places with four chips each, and the judge's file."""
    folder = tmp_path_factory.mktemp("b4")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        np.save(folder / f"o{i}.npy", tiny_pair(i % 3, rng, 64)[0])
        paths = {"optical": folder / f"o{i}.npy", "sar": None}
        rows.append(SampleRow(paths, CLASSES[i % 3], f"place-{i}", "train" if i % 2 else "test"))
    write_index(folder / "index.csv", rows)
    write_npz(folder / "triplets.npz", IDS, size=128)
    corners = [(name, row, column) for name in IDS for row in (0, 64) for column in (0, 64)]
    probabilities = np.full((16, 3), 0.1)
    probabilities[np.arange(16), np.arange(16) % 3] = 0.8
    probabilities[::4] = 1 / 3
    ids, rows_, columns = (list(part) for part in zip(*corners, strict=True))
    np.savez(folder / "judge.npz", id=ids, row=rows_, col=columns, probabilities=probabilities,
             classes=np.array(CLASSES))  # fmt: skip
    source, target = folder / "index.csv", folder / "triplets.npz"
    return str(source), f"sen12ms-cr:{target}", str(folder / "judge.npz")


def opened(files: tuple[str, str, str], held_out: int = 1) -> RealTargetDataset:
    chips: Any = open_dataset(files[1])
    judged = with_judge(chips, files[2])
    return RealTargetDataset(open_dataset(files[0]), judged, FoldOptions(4, held_out))


def test_places_are_held_out_once_and_nothing_of_the_target_trains_with_a_label(files):
    judged = []
    for fold in range(4):
        dataset = opened(files, fold)
        train, test = indices_of(dataset, "train"), indices_of(dataset, "test")
        assert len(train) == 24 + 12 and len(test) == 3  # the judge is unsure of one of four
        assert (dataset.labels[train[24:]] == -1).all() and (dataset.labels[test] >= 0).all()
        assert not {dataset.groups[i] for i in train} & {dataset.groups[i] for i in test}
        judged += [dataset.groups[i] for i in test]
    assert len(set(judged)) == 4 and len(judged) == 12


def test_clear_images_of_the_target_are_shown_for_judged_chips_only(files):
    dataset = opened(files)
    for split, is_clear in (("train", False), ("test", True)):
        pairs = DegradedPairs(dataset, split, Degradation(cover=0.0))
        pair = pairs.get(len(pairs) - 1)
        chip = pair.index - 24
        np.testing.assert_array_equal(pair.optical, dataset.chips.pair(chip)[0])
        np.testing.assert_array_equal(pair.sar, dataset.chips.pair(chip)[1])
        shown = dataset.chips.clear(chip) if is_clear else pair.optical
        np.testing.assert_array_equal(pair.clear, shown)


def test_labeled_pairs_teach_and_unlabeled_ones_are_the_target(files):
    dataset = opened(files)
    labeled, target = labeled_and_unlabeled(dataset)
    assert len(indices_of(labeled, "train")) == 24 and len(indices_of(target, "train")) == 12
    assert labeled.pair(0)[1] is None and target.pair(30)[1] is not None


def test_what_does_not_fit_is_refused(files):
    source, target, judge = files
    chips: Any = open_dataset(target)
    judged = with_judge(chips, judge)
    bare = MemoryDataset(
        "bare", ("Forest",), np.zeros(2, np.int64), ("a", "b"), ("train",) * 2,
        SENTINEL2_L1C_BANDS, (), np.zeros((2, 13, 64, 64), np.uint16), None,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"judge knows the classes \['River', 'SeaLake'\]"):
        RealTargetDataset(bare, judged, FoldOptions(4))
    with pytest.raises(InputError, match="places are held out"):
        RealTargetDataset(open_dataset(source), judged, FoldOptions())
    with pytest.raises(InputError, match="4 groups make no 5 folds"):
        RealTargetDataset(open_dataset(source), judged, FoldOptions(5))


def test_methods_are_compared_by_the_answers_of_all_folds(files, tmp_path):
    source, target, judge = files
    document = tiny_document(
        Path(""), Path(""), epochs=1, target_unlabeled=True, clouds={"simulate": False},
        folds={"count": 4},
    )  # fmt: skip
    options = options_from(document)
    methods = ["source-only", "esccs", "clear-teacher"]
    compare(source, target, tmp_path / "out", methods=methods, seeds=4, options=options,
            judge=judge)  # fmt: skip
    report = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert list(report["rows"]) == [*methods, "majority class"] and report["n"] == 12
    assert set(report["places"].values()) == {3} and len(report["places"]) == 4
    assert set(report["differences"]) == {"esccs - source-only", "esccs - clear-teacher"}
    table = (tmp_path / "out" / "table.md").read_text()
    assert "agrees with a judge" in table and "judged pairs: nothing" in table
    with pytest.raises(
        InputError, match="supervised-fusion is given labels or dates of the target"
    ):
        compare(source, target, tmp_path / "two", methods=["supervised-fusion"], options=options,
                judge=judge)  # fmt: skip
    with pytest.raises(InputError, match="target_unlabeled"):
        compare(source, target, tmp_path / "two", options=options_from({}), judge=judge)


def test_the_configuration_of_the_benchmark_is_read():
    options: Any = read_options(CONFIGS / "b4-real.toml")
    assert options.target_unlabeled and not options.clouds.simulate and options.folds.count == 6
