"""A small comparison: its tables, its resumption, what it refuses."""

from __future__ import annotations

import csv
import json
import re

import pytest
from tiny_data import tiny_document, tiny_index

pytest.importorskip("torch")
pytest.importorskip("lightning")

from esccs_edge.errors import InputError  # noqa: E402
from esccs_edge.training import compare as compare_module  # noqa: E402
from esccs_edge.training.compare import compare  # noqa: E402
from esccs_edge.training.datasets import open_source  # noqa: E402
from esccs_edge.training.methods import METHODS  # noqa: E402
from esccs_edge.training.metrics import CLOUD_BINS  # noqa: E402
from esccs_edge.training.options import options_from  # noqa: E402
from esccs_edge.training.train_test_source import TrainTestSource  # noqa: E402


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return str(tiny_index(folder / "a", 24)), str(tiny_index(folder / "b", 24, seed=1))


OPTIONS = options_from(tiny_document("", "", epochs=1))


def test_tables_have_one_row_per_method_and_one_column_per_cloud_bin(indexes, tmp_path):
    found = compare(*indexes, tmp_path / "out", seeds=2, options=OPTIONS)
    with open(tmp_path / "out" / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["method"] for row in rows] == list(METHODS)
    assert list(rows[0]) == [
        "method", "balanced_accuracy_mean", "balanced_accuracy_sd", "oa_mean", *CLOUD_BINS,
    ]  # fmt: skip
    assert all(0 <= float(value) <= 1 for row in rows for key, value in row.items()
               if key != "method")  # fmt: skip
    runs = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert [(run["method"], run["seed"]) for run in runs] == [
        (m, s) for s in (0, 1) for m in METHODS
    ]
    table = (tmp_path / "out" / "table.md").read_text()
    assert all(f"| {name} |" in table for name in METHODS)
    assert len(found.rows) == len(METHODS)


def test_a_finished_row_is_never_computed_again(indexes, tmp_path, monkeypatch):
    compare(*indexes, tmp_path / "out", methods=["source-only"], options=OPTIONS)
    before = (tmp_path / "out" / "runs" / "source-only-0.json").read_bytes()
    monkeypatch.setattr(compare_module, "Chain", None)  # any new work would fail
    again = compare(*indexes, tmp_path / "out", methods=["source-only"], options=OPTIONS,
                    resume=True)  # fmt: skip
    assert (tmp_path / "out" / "runs" / "source-only-0.json").read_bytes() == before
    assert again.rows[0]["method"] == "source-only"


def test_methods_of_one_seed_share_the_teacher(indexes, tmp_path, monkeypatch):
    compare(*indexes, tmp_path / "out", methods=["source-only"], options=OPTIONS)
    teacher = tmp_path / "out" / "seed-0" / "checkpoints" / "teacher.safetensors"
    before = teacher.stat().st_mtime_ns
    compare(*indexes, tmp_path / "out", methods=["sar-auxiliary"], options=OPTIONS, resume=True)
    assert teacher.stat().st_mtime_ns == before


def test_unknown_methods_and_used_folders_are_refused(indexes, tmp_path):
    with pytest.raises(InputError, match="'magic'"):
        compare(*indexes, tmp_path / "out", methods=["magic"])
    assert not (tmp_path / "out").exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        compare(*indexes, tmp_path)


def test_other_data_or_options_are_not_mixed_into_a_comparison(indexes, tmp_path):
    compare(*indexes, tmp_path / "out", methods=["source-only"], options=OPTIONS)
    with pytest.raises(InputError, match="already holds"):
        compare(*indexes, tmp_path / "out", methods=["source-only"], options=OPTIONS)
    other = options_from(tiny_document("", "", epochs=2))
    with pytest.raises(InputError, match="other data or options"):
        compare(*indexes, tmp_path / "out", methods=["source-only"], options=other, resume=True)


def test_unlabeled_judged_pairs_are_refused(indexes, tmp_path):
    index = tiny_index(tmp_path / "c", 24, seed=7)
    lines = index.read_text().splitlines()
    cut = [line.replace(",Forest,", ",,") if line.endswith("test") else line for line in lines]
    cut = [re.sub(",(River|SeaLake),", ",,", c) if c.endswith("test") else c for c in cut]
    index.write_text("\n".join(cut) + "\n")
    with pytest.raises(InputError, match="no labeled pair"):
        compare(indexes[0], str(index), tmp_path / "out", methods=["source-only"], options=OPTIONS)


def test_the_joined_source_keeps_the_sides_apart(indexes):
    train, test = (open_source(path) for path in indexes)
    joined = TrainTestSource(train, test)
    assert set(joined.splits) == {"train", "val", "test"}
    judged = [i for i, split in enumerate(joined.splits) if split == "test"]
    names = [joined.classes[joined.labels[i]] for i in judged]
    own = [i for i, split in enumerate(test.splits) if split == "test"]
    assert names == [test.classes[test.labels[i]] for i in own]
    for mine, theirs in zip(judged, own, strict=True):
        for a, b in zip(joined.pair(mine), test.pair(theirs), strict=True):
            assert (a == b).all()


def test_a_place_on_both_sides_is_refused(indexes, tmp_path):
    train = open_source(indexes[0])
    text = tiny_index(tmp_path / "c", 24, seed=0)
    text.write_text(text.read_text().replace(",train", ",test").replace(",val", ",test"))
    with pytest.raises(InputError, match="place-0"):
        TrainTestSource(train, open_source(str(text)))
