"""A small comparison: its tables, its resumption, what it refuses."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.errors import InputError
from esccs_edge.training.comparison import runs as comparison_runs
from esccs_edge.training.comparison.figures import (
    ACCURACY_NAME,
    RELIABILITY_NAME,
    SHARE_NAME,
)
from esccs_edge.training.comparison.recorded_answers import RecordedAnswers
from esccs_edge.training.comparison.run import compare
from esccs_edge.training.comparison.run_files import RunFiles
from esccs_edge.training.comparison.trials import RATES, TRIAL_SEED, Trials, scaled
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.methods import METHODS
from esccs_edge.training.options_file import options_from, read_options
from esccs_edge.training.samples.train_test_dataset import TrainTestDataset


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return str(tiny_index(folder / "a", 24)), str(tiny_index(folder / "b", 24, seed=1))


CONFIGS = Path(__file__).parents[2] / "training" / "configs"
METHODS_SHOWN = ["source-only", "tlf-late", "sar-auxiliary", "esccs", "clear-teacher"]
OPTIONS: Any = options_from(tiny_document("", "", epochs=1))


def test_tables_have_one_row_per_method_and_one_column_per_cloud_bin(indexes, tmp_path):
    found = compare(
        *indexes,
        tmp_path / "out",
        seeds=2,
        other_seeds=1,
        methods=METHODS_SHOWN[::-1],
        options=OPTIONS,
        jobs=2,
    )
    with open(tmp_path / "out" / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["method"] for row in rows] == METHODS_SHOWN
    assert list(rows[0]) == [
        "method", "seeds", "balanced_accuracy_mean", "balanced_accuracy_low",
        "balanced_accuracy_high", "balanced_accuracy_sd", "oa_mean", "macro_f1_mean",
        "ece_mean", "clear_sky_mean", "partly_clouded_mean",
        *(f"esccs_gain{part}" for part in ("", "_low", "_high", "_p")),
        *(f"esccs_gain_partly_clouded{part}" for part in ("", "_low", "_high", "_p")),
        "core_hours_mean", "wall_s_mean", "deployable", "reproduced", *CLOUD_BINS,
    ]  # fmt: skip
    assert [int(row["seeds"]) for row in rows] == [1, 1, 1, 2, 1]
    shares = ("balanced_accuracy_mean", "oa_mean", "macro_f1_mean", "ece_mean", "clear_sky_mean",
              *CLOUD_BINS)  # fmt: skip
    assert all(0 <= float(row[key]) <= 1 for row in rows for key in shares)
    low, high = (float(rows[0][f"esccs_gain_{end}"]) for end in ("low", "high"))
    assert -1 <= low <= high <= 1
    assert rows[3]["esccs_gain_low"] == ""
    assert [row["deployable"] for row in rows] == ["True"] * 4 + ["False"]
    runs = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert [(run["method"], run["seed"]) for run in runs] == [
        (m, s) for m in METHODS_SHOWN for s in range(2 if m == "esccs" else 1)
    ]
    table = (tmp_path / "out" / "table.md").read_text()
    assert all(f"| {name} |" in table and METHODS[name].adds in table for name in METHODS_SHOWN)
    assert len(found.rows) == len(METHODS_SHOWN)
    assert all(run["config"]["seed"] == run["seed"] and run["wall_s"] > 0 for run in runs)
    assert "| 2 | esccs |" in table and "| simulator |" not in table
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["core_hours"]["rows"] > 0 and summary["core_hours"]["shared"] > 0
    for name in (ACCURACY_NAME, SHARE_NAME, RELIABILITY_NAME):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_recorded_answers_give_back_the_scores_of_the_run(indexes, tmp_path):
    compare(*indexes, tmp_path / "out", methods=["source-only", "esccs"], options=OPTIONS)
    for name in ("source-only", "esccs"):
        stored = RecordedAnswers.read(RunFiles(tmp_path / "out"), name, 0)
        run = json.loads((tmp_path / "out" / "runs" / f"{name}-0.json").read_text())
        accuracy = (stored.judged.probabilities.argmax(axis=1) == stored.judged.labels).mean()
        assert accuracy == pytest.approx(run["metrics"]["overall"]["oa"])
        assert len(stored.places) == len(stored.judged.labels)
        assert (stored.optical_share is None) == (name == "source-only")


@pytest.mark.parametrize("damaged", ["npz", "json"])
def test_a_damaged_run_is_refused_with_the_way_to_go_on(indexes, tmp_path, damaged):
    wanted = {"methods": ["source-only"], "options": OPTIONS}
    found = compare(*indexes, tmp_path / "out", **wanted)
    record = tmp_path / "out" / "runs" / "source-only-0.json"
    file = record.with_suffix(f".{damaged}")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(
        InputError, match=rf"{re.escape(file.name)}.*Remove {re.escape(str(record))}"
    ):
        compare(*indexes, tmp_path / "out", **wanted, resume=True)
    record.unlink()
    again = compare(*indexes, tmp_path / "out", **wanted, resume=True)
    assert again.rows[0]["oa_mean"] == found.rows[0]["oa_mean"]


def test_a_comparison_whose_plan_is_damaged_is_refused_in_words(indexes, tmp_path):
    wanted = {"methods": ["source-only"], "options": OPTIONS}
    compare(*indexes, tmp_path / "out", **wanted)
    (tmp_path / "out" / "plan.json").write_text("[]")
    with pytest.raises(
        InputError, match=r"plan\.json holds a list, expected an object.*new folder"
    ):
        compare(*indexes, tmp_path / "out", **wanted, resume=True)


def test_a_killed_comparison_goes_on_with_what_is_missing(indexes, tmp_path, monkeypatch):
    killed, real = [], RecordedAnswers.write

    def write_once(answers, *where):
        if killed:
            raise KeyboardInterrupt
        killed.append(1)
        real(answers, *where)

    monkeypatch.setattr(RecordedAnswers, "write", write_once)
    wanted = {"methods": ["source-only", "sar-auxiliary"], "options": OPTIONS}
    with pytest.raises(KeyboardInterrupt):
        compare(*indexes, tmp_path / "out", **wanted)
    first = tmp_path / "out" / "runs" / "source-only-0.json"
    before = first.stat().st_mtime_ns
    monkeypatch.setattr(RecordedAnswers, "write", real)
    found = compare(*indexes, tmp_path / "out", **wanted, resume=True)
    assert [row["method"] for row in found.rows] == wanted["methods"]
    assert first.stat().st_mtime_ns == before


def test_a_finished_row_is_never_computed_again(indexes, tmp_path, monkeypatch):
    compare(*indexes, tmp_path / "out", methods=["source-only"], options=OPTIONS)
    before = (tmp_path / "out" / "runs" / "source-only-0.json").read_bytes()
    monkeypatch.setattr(comparison_runs, "SceneRun", None)  # any new work would fail
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


def test_groups_of_methods_and_fewer_seeds_for_others_are_taken(indexes, tmp_path):
    found = compare(*indexes, tmp_path / "out", methods=["halves", "source-only"], seeds=2,
                    other_seeds=1, options=OPTIONS)  # fmt: skip
    names = ["source-only", "optical-auxiliary", "sar-auxiliary"]
    assert [(row["method"], row["seeds"]) for row in found.rows] == [(n, 1) for n in names]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary["choosing"]) == {*CLOUD_BINS, "all"}
    assert summary["choosing"]["all"]["oracle"] >= summary["choosing"]["all"]["best"]


def test_every_method_is_tried_alike_on_a_seed_that_is_not_judged(indexes, tmp_path):
    names = ["source-only", "kd-s", "optical-auxiliary"]
    out = tmp_path / "out"
    compare(*indexes, out, methods=names, trials=2, options=OPTIONS)
    assert {path.stem for path in (out / "trials").iterdir()} == {"kd-s", "esccs"}
    for name in ("kd-s", "esccs"):
        found = json.loads((out / "trials" / f"{name}.json").read_text())
        rates = [tried["rate"] for tried in found["tried"]]
        assert rates == list(RATES[:2])
        best = max(found["tried"], key=lambda tried: tried["balanced_accuracy"])
        assert found["best"] == best["rate"]
    runs = {run["method"]: run for run in json.loads((out / "runs.json").read_text())}
    assert [runs[name]["told"]["trials"] for name in names] == [0, 2, 2]
    chosen = json.loads((out / "trials" / "esccs.json").read_text())["best"]
    assert runs["optical-auxiliary"]["rate"] == chosen  # a part of ESCCS takes what ESCCS chose
    assert {run["seed"] for run in runs.values()} == {0} != {TRIAL_SEED}
    with pytest.raises(InputError, match="other data or options: trials"):
        compare(*indexes, out, methods=names, trials=1, options=OPTIONS, resume=True)


def test_a_row_at_another_rate_learns_all_its_stages_at_it(tmp_path):
    faster = scaled(OPTIONS, 3.0)
    for part in ("auxiliary", "student"):
        before, after = getattr(OPTIONS, part).schedule, getattr(faster, part).schedule
        assert after == replace(before, learning_rate=3 * before.learning_rate)
    assert faster.teacher == OPTIONS.teacher
    with pytest.raises(InputError, match="trials"):
        Trials(tmp_path, len(RATES) + 1)


def test_other_data_or_options_are_not_mixed_into_a_comparison(indexes, tmp_path):
    compare(*indexes, tmp_path / "out", methods=["source-only"], options=OPTIONS)
    with pytest.raises(InputError, match="already holds"):
        compare(*indexes, tmp_path / "out", methods=["source-only"], options=OPTIONS)
    plan = tmp_path / "out" / "plan.json"
    before = json.loads(plan.read_text())
    del before["options"]["student"]["irm"]["clip"]  # as if that option had come later
    plan.write_text(json.dumps(before))
    compare(*indexes, tmp_path / "out", methods=["source-only"], options=OPTIONS, resume=True)
    other = options_from(tiny_document("", "", epochs=2))
    with pytest.raises(InputError, match="other data or options: auxiliary, student, teacher"):
        compare(*indexes, tmp_path / "out", methods=["source-only"], options=other, resume=True)


def test_unlabeled_judged_pairs_are_refused(indexes, tmp_path):
    index = tiny_index(tmp_path / "c", 24, seed=7)
    lines = index.read_text().splitlines()
    cut = [line.replace(",Forest,", ",,") if line.endswith("test") else line for line in lines]
    cut = [re.sub(",(River|SeaLake),", ",,", c) if c.endswith("test") else c for c in cut]
    index.write_text("\n".join(cut) + "\n")
    with pytest.raises(InputError, match="no labeled pair"):
        compare(indexes[0], str(index), tmp_path / "out", methods=["source-only"], options=OPTIONS)


def test_the_joined_dataset_keeps_the_sides_apart(indexes):
    train, test = (open_dataset(path) for path in indexes)
    joined = TrainTestDataset(train, test)
    assert set(joined.splits) == {"train", "val", "test"}
    judged = [i for i, split in enumerate(joined.splits) if split == "test"]
    names = [joined.classes[joined.labels[i]] for i in judged]
    own = [i for i, split in enumerate(test.splits) if split == "test"]
    assert names == [test.classes[test.labels[i]] for i in own]
    for mine, theirs in zip(judged, own, strict=True):
        for a, b in zip(joined.pair(mine), test.pair(theirs), strict=True):
            assert (a == b).all()


def test_a_place_on_both_sides_is_refused(indexes, tmp_path):
    train = open_dataset(indexes[0])
    text = tiny_index(tmp_path / "c", 24, seed=0)
    text.write_text(text.read_text().replace(",train", ",test").replace(",val", ",test"))
    with pytest.raises(InputError, match="place-0"):
        TrainTestDataset(train, open_dataset(str(text)))


@pytest.mark.parametrize("name", ["b1-ombria", "b2-eurosat", "b3-sen12ms"])
def test_committed_benchmarks_hide_the_target_and_give_all_methods_one_schedule(name):
    options: Any = read_options(CONFIGS / f"{name}.toml")
    assert 0 < options.target_share < 1
    assert options.distillation.label_weight == 0
    assert options.distillation.teacher_input == "cloudy"
    schedules = {options.auxiliary.schedule, options.student.schedule}
    branches = {options.teacher.network, options.auxiliary.optical, options.student.optical}
    assert len(schedules) == len(branches) == 1


def test_the_sen12ms_benchmark_runs_on_a_tiny_folder_in_its_layout(tmp_path):
    pytest.importorskip("rasterio")
    from support.sen12ms_layout import write_sen12ms

    write_sen12ms(tmp_path, 16, [("ROIs1158_spring", n) for n in range(1, 17)], classes=2)
    options: Any = read_options(CONFIGS / "b3-sen12ms.toml")
    short = replace(options.student.schedule, epochs=1, batch_size=4)
    parts = {
        name: replace(getattr(options, name), schedule=short)
        for name in ("teacher", "auxiliary", "student")
    }
    data = f"sen12ms:{tmp_path}"
    found = compare(
        data,
        data,
        tmp_path / "out",
        methods=["source-only", "esccs"],
        options=options.evolve(**parts),
    )
    assert [row["method"] for row in found.rows] == ["source-only", "esccs"]
    runs = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert all(sum(b["n"] for b in run["metrics"]["by_cloud"].values()) > 0 for run in runs)
