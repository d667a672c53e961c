"""A data set is looked over as a whole: each kind of fault is found, and a good one has none."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from support.cli_parts import run, run_json
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.training.data_check import check_index
from esccs_edge.training.options_file import options_from
from esccs_edge.training.run import train


@pytest.fixture
def index(tmp_path):
    return tiny_index(tmp_path / "data")


def rewrite(index, change):
    """Change the lines of an index below its header."""
    header, *lines = index.read_text().splitlines()
    index.write_text("\n".join([header, *change([line.split(",") for line in lines])]) + "\n")


def joined(rows):
    return [",".join(row) for row in rows]


def test_a_good_data_set_is_counted_and_has_no_problem(index):
    found = check_index(index)
    assert found.problems == []
    assert found.pairs["train"] == {"Forest": 8, "River": 8, "SeaLake": 8}
    assert found.places == {"train": 24, "val": 12, "test": 12}
    assert found.modalities == {"optical": 48, "sar": 48}


def missing_files(index):
    (index.parent / "optical-3.npy").unlink()
    (index.parent / "sar-7.npy").unlink()


def damaged_file(index):
    (index.parent / "sar-5.npy").write_bytes(b"\x93NUMPY")


def copies_in_two_splits(index):
    def change(rows):
        return joined([*rows, *([r[0], r[1], r[2], f"copy-{r[3]}", "test"] for r in rows[:2])])

    rewrite(index, change)


def group_in_two_splits(index):
    rewrite(index, lambda rows: joined([[*r[:3], "one place", r[4]] for r in rows]))


def another_size(index):
    np.save(index.parent / "optical-9.npy", np.ones((13, 20, 20), np.uint16))


def floats_of_digital_numbers(index):
    path = index.parent / "optical-11.npy"
    np.save(path, np.load(path).astype(np.float32))


@pytest.mark.parametrize(
    "spoil, count, words",
    [
        (missing_files, 2, "is not an existing file"),
        (damaged_file, 1, "sar-5.npy"),
        (copies_in_two_splits, 2, "pixels, expected each image in one split"),
        (group_in_two_splits, 1, "'one place' is in the splits test, train, val"),
        (another_size, 1, "optical-9.npy"),
        (floats_of_digital_numbers, 1, "look like digital numbers"),
    ],
)
def test_every_fault_is_listed_and_training_refuses_it(index, tmp_path, spoil, count, words):
    spoil(index)
    found = check_index(index)
    assert len(found.problems) == count and all(words in text for text in found.problems)
    document = run_json("check", index, code=1)
    assert document["problems"] == found.problems and document["usable"] is False
    with pytest.raises(Exception) as refusal:
        train(options_from(tiny_document(index, tmp_path / "run")))
    assert getattr(refusal.value, "code", "") in ("input", "raster")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_is_only_odd_is_noted(index):
    def change(rows):
        kept = [r for r in rows if not (r[2] == "River" and r[4] == "train")]
        kept[0][2] = "forest"
        return joined(kept + [[*r[:3], f"again-{r[3]}", r[4]] for r in kept if r[4] == "val"][:100])

    rewrite(index, change)
    found = check_index(index)
    notes = " | ".join(found.notes)
    assert found.problems == []
    assert "no training pair has the class River" in notes
    assert "['Forest', 'forest'] differ in letters alone" in notes
    assert f"{sum(found.pairs['val'].values()) // 2} pairs repeat the pixels" in notes


@pytest.mark.parametrize(
    "label, words",
    [
        ("Ri\u200bver", "differ in letters alone"),
        ("Riv\u00e9r", "differ in letters alone"),
        ("Sea Lake", "differ in letters alone"),
        ("sea_lake", "differ in letters alone"),
        ("None", "looks like a missing label"),
        ("nan", "looks like a missing label"),
    ],
)
def test_labels_that_are_a_slip_are_noted(index, label, words):
    def change(rows):
        rows[0][2] = label
        return joined(rows)

    rewrite(index, change)
    assert words in " | ".join(check_index(index).notes)


def test_one_image_under_two_labels_is_noted_before_training_too(index, tmp_path, capsys):
    def change(rows):
        return joined([*rows, [*rows[0][:2], "SeaLake" if rows[0][2] != "SeaLake" else "River",
                               "another place", rows[0][4]]])  # fmt: skip

    rewrite(index, change)
    told = "1 pairs repeat the pixels of another under another label"
    assert told in " | ".join(check_index(index).notes)
    train(options_from(tiny_document(index, tmp_path / "run")))
    assert told in capsys.readouterr().err


def test_a_model_that_knows_its_classes_needs_no_pairs_of_them(index, bundle):
    rewrite(index, lambda rows: joined([r for r in rows if r[2] != "River"]))
    assert "never be answered" not in " | ".join(check_index(index, bundle.manifest).notes)


def test_a_model_says_what_it_would_refuse(index, bundle):
    found = check_index(index, bundle.manifest)
    assert found.problems == [] and "never be answered" not in " | ".join(found.notes)
    for path in index.parent.glob("sar-*.npy"):
        np.save(path, 10 ** (np.load(path) / 10))
    found = check_index(index, bundle.manifest)
    assert len(found.problems) == 48 and "linear sigma0" in found.problems[0]


def test_a_data_set_without_radar_or_with_simulated_parts_says_so(index):
    text = index.read_text().splitlines()
    index.write_text("\n".join([text[0] + ",simulated", *(f"{row},clouds" for row in text[1:])]))
    assert "SIMULATED: clouds in 48 pairs" in run("check", index).stdout
    rewrite(index, lambda rows: joined([[r[0], "", *r[2:]] for r in rows]))
    assert "no pair has SAR: training will simulate" in run("check", index).stdout


def test_an_unreadable_index_is_refused(tmp_path):
    assert run("check", tmp_path / "none.csv").exit_code == 1
    (tmp_path / "a.csv").write_text("optical;sar\n")
    assert "use commas" in run("check", tmp_path / "a.csv").stderr


def test_simulated_parts_are_the_first_and_last_thing_training_says(index, tmp_path, capfd):
    rewrite(index, lambda rows: joined([[r[0], "", *r[2:]] for r in rows]))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    train(options_from(tiny_document(index, tmp_path / "run", epochs=1)))
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("SIMULATED")]
    assert [line.partition(":")[0] for line in said] == ["SIMULATED sar", "SIMULATED clouds"] * 2
