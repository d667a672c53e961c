"""Agreement with a judge of real chips: by hand, slow twin, folds, public triplets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sen12ms_cr_layout import write_npz
from support.tiny import CLASSES, tiny_bundle

from esccs_edge.classifier import Classifier
from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.errors import InputError
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.datasets.clear_judge import with_judge
from esccs_edge.training.datasets.sen12ms_cr import open_sen12ms_cr
from esccs_edge.training.datasets.triplets import Chips
from esccs_edge.training.judging.agreement import (
    MAJORITY,
    JudgedChips,
    agreement,
    agreement_table,
    difference,
)
from esccs_edge.training.judging.real_chips import INPUTS, judge_bundle, judge_folds


def made(labels, places, covers=None) -> JudgedChips:
    labels = np.array(labels)
    covers = np.zeros(len(labels)) if covers is None else np.array(covers, float)
    return JudgedChips(labels, np.array(places), covers, ("a", "b", "c"))


def test_shares_of_a_hand_made_example():
    chips = made([0, 0, 0, 1, 1, 2], list("xxxxyy"), [0.1, 0.1, 0.5, 0.5, 0.9, np.nan])
    report = agreement(chips, {"row": np.array([0, 0, 1, 1, 1, -1])})
    row = report["rows"]["row"]
    assert row["all"]["value"] == pytest.approx(4 / 6)
    assert row["balanced"]["value"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert row["place_mean"]["value"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert row["by_place"] == {"x": 0.75, "y": 0.5} and row["failed"] == 1
    assert [row["by_cloud"][name]["n"] for name in CLOUD_BINS] == [2, 0, 2, 0, 1]
    assert row["by_cloud"]["40-60"]["value"] == 0.5 and row["by_cloud"]["20-40"]["value"] is None
    assert row["by_cloud"]["0-20"]["low"] is None  # one place says nothing of others
    assert report["places"] == {"x": 4, "y": 2} and report["majority_class"] == "a"
    assert report["rows"][MAJORITY]["all"]["value"] == 0.5


def test_intervals_are_those_of_places_drawn_one_by_one():
    rng = np.random.default_rng(3)
    places = np.repeat(np.arange(8), rng.integers(2, 12, 8))
    labels = rng.integers(0, 3, len(places))
    answer = np.where(rng.random(len(places)) < 0.2 + 0.08 * places, labels, 0)
    chips = made(labels, places.astype(str))
    drawn: dict[str, list[float]] = {"all": [], "balanced": [], "place_mean": []}
    for _ in range(3000):
        parts = [np.flatnonzero(places == p) for p in rng.integers(8, size=8)]
        rows = np.concatenate(parts)
        right = answer == labels
        drawn["all"].append(right[rows].mean())
        drawn["place_mean"].append(np.mean([right[part].mean() for part in parts]))
        classes = np.unique(labels[rows])
        drawn["balanced"].append(
            np.mean([(right[rows])[labels[rows] == k].mean() for k in classes])
        )
    row = agreement(chips, {"row": answer})["rows"]["row"]
    for name, values in drawn.items():
        ends = row[name]["low"], row[name]["high"]
        assert ends == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.02)


def test_a_difference_uses_the_same_draws_for_both_rows():
    rng = np.random.default_rng(0)
    labels, places = rng.integers(0, 3, 60), np.repeat(np.arange(6), 10)
    chips = made(labels, places.astype(str))
    assert difference(chips, labels, labels)["all"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    other = np.where(rng.random(60) < 0.5, labels, (labels + 1) % 3)
    found, back = difference(chips, labels, other), difference(chips, other, labels)
    for name, part in found.items():
        assert part["value"] == pytest.approx(-back[name]["value"])
        assert part["low"] <= part["value"] <= part["high"] and part["low"] >= 0
        assert part["low"] == pytest.approx(-back[name]["high"])


def test_the_same_seed_gives_the_same_report():
    rng = np.random.default_rng(0)
    chips = made(rng.integers(0, 3, 30), np.repeat(list("abc"), 10))
    answers = {"row": rng.integers(0, 3, 30)}
    assert agreement(chips, answers) == agreement(chips, answers)
    assert agreement(chips, answers, seed=1) != agreement(chips, answers)


# --- through a bundle ---------------------------------------------------------------------------


@pytest.fixture
def chips(tmp_path: Path) -> Chips:
    """Eight chips of two places, of which the judge is sure of seven."""
    write_npz(tmp_path / "triplets.npz", ["1", "1000"], size=32)
    chips = Chips(open_sen12ms_cr(tmp_path), size=16, stride=16)
    return with_judge(chips, write_judge(tmp_path / "judge.npz", chips))


def write_judge(path: Path, chips: Chips, sure_from: int = 1) -> Path:
    probabilities = np.full((len(chips), len(CLASSES)), 0.1)
    probabilities[np.arange(len(chips)), np.arange(len(chips)) % len(CLASSES)] = 0.7
    probabilities[:sure_from] = 1 / len(CLASSES)
    ids = [chips.triplets.ids[corner.triplet] for corner in chips.corners]
    rows, columns = ([corner[k] for corner in chips.corners] for k in (1, 2))
    np.savez(path, id=ids, row=rows, col=columns, probabilities=probabilities,
             classes=np.array(CLASSES))  # fmt: skip
    return path


@pytest.fixture
def classifier(tmp_path):
    with Classifier(tiny_bundle(tmp_path / "bundle"), backend="cpu") as ready:
        yield ready


def test_the_judge_labels_what_it_is_sure_of(chips):
    assert chips.classes == CLASSES and chips.labels.tolist() == [-1, 1, 2, 3, 0, 1, 2, 3]


def test_a_bundle_is_asked_about_every_combination(classifier, chips):
    report = judge_bundle(classifier, chips)
    assert list(report["rows"]) == [*INPUTS, MAJORITY] and report["n"] == 7
    known = np.flatnonzero(chips.labels >= 0)
    asked: dict[str, Any] = {
        "clear optical": lambda i: (chips.clear(i), None),
        "SAR": lambda i: (None, chips.pair(i)[1]),
        "cloudy + SAR": lambda i: chips.pair(i),
    }
    for name, images in asked.items():
        right = [classifier.classify(*images(i)).label == CLASSES[chips.labels[i]] for i in known]
        assert report["rows"][name]["all"]["value"] == pytest.approx(np.mean(right))
    assert "cloudy + SAR" in agreement_table(report)
    assert "cloudy + SAR - cloudy optical" in report["differences"]


def test_fold_models_answer_for_their_places_only(classifier, chips):
    first, second = sorted(set(chips.groups))
    together = judge_folds([(classifier, [first]), (classifier, [second])], chips)
    assert together == judge_bundle(classifier, chips)
    for models in ([(classifier, [first])], [(classifier, [first, second])] * 2):
        with pytest.raises(InputError, match="expected each of"):
            judge_folds(models, chips)


def test_unlabeled_chips_and_foreign_judges_are_refused(classifier, chips, tmp_path):
    with pytest.raises(InputError, match="no chip of SEN12MS-CR has a label"):
        judge_bundle(classifier, chips.of_size(16))
    with pytest.raises(InputError, match="sure of none of the 8 chips"):
        with_judge(chips, write_judge(tmp_path / "unsure.npz", chips, sure_from=8))
    for wrong in (tmp_path / "triplets.npz", tmp_path / "nowhere.npz"):
        with pytest.raises(InputError, match="not a judge file"):
            with_judge(chips, wrong)


@pytest.mark.data
def test_public_triplets_give_the_published_numbers_of_a_judge_of_160_chips(sample_data):
    folder = sample_data / "sen12ms-cr"
    chips = with_judge(open_dataset(f"sen12ms-cr:{folder}"), folder / "judge.npz")
    assert (chips.labels >= 0).sum() == 160
    majority = np.bincount(chips.labels[chips.labels >= 0]).max() / 160
    assert majority == pytest.approx(0.49, abs=0.005)
    assert chips.classes[np.bincount(chips.labels[chips.labels >= 0]).argmax()] == (
        "HerbaceousVegetation"
    )
