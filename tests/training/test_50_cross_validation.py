"""Cross-validation: folds by place, one model each, judged on what it never saw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.cli import main
from esccs_edge.errors import InputError
from esccs_edge.training.cross_validation import cross_validate
from esccs_edge.training.judging.fold_answers import FoldAnswers, in_light
from esccs_edge.training.judging.metrics import rank_correlation
from esccs_edge.training.judging.real_chips import INPUTS
from esccs_edge.training.options_file import options_from

IDS = ("1", "2", "1001", "2001")
CLASSES = ("Forest", "River", "SeaLake")


def triplets(path: Path, size: int = 32) -> Path:
    """Four triplets of three places, in the form of ``triplets.npz``."""
    rng = np.random.default_rng(0)
    clear = rng.integers(300, 3000, (4, 13, size, size)).astype(np.uint16)
    mask = np.zeros((4, size, size), np.uint8)
    mask[:, :, size // 2 :] = 1
    cloudy = np.where(mask[:, None] > 0, 6000, clear).astype(np.uint16)
    s1 = rng.integers(-2000, -500, (4, 2, size, size)).astype(np.int16)
    np.savez(path, id=np.array(IDS), s1=s1, cloudy=cloudy, clear=clear, mask=mask)
    return path


def judge_file(path: Path, size: int = 32, chip: int = 16) -> Path:
    """A judge that is sure of every chip but the first."""
    rows = [(i, r, c) for i in IDS for r in range(0, size, chip) for c in range(0, size, chip)]
    probabilities = np.full((len(rows), 3), 0.1, np.float32)
    probabilities[np.arange(len(rows)), np.arange(len(rows)) % 3] = 0.8
    probabilities[0] = 1 / 3
    ids, top, left = (np.array(part) for part in zip(*rows, strict=True))
    np.savez(path, id=ids, row=top, col=left, probabilities=probabilities, classes=CLASSES)
    return path


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """Two folds of tiny data beside tiny triplets: options, judge and report."""
    folder = tmp_path_factory.mktemp("folds")
    document = tiny_document(
        tiny_index(folder / "data"), folder / "out", epochs=1, folds={"count": 2},
        distillation={"teacher_input": "clear", "label_weight": 1.0},
    )  # fmt: skip
    document["real_pairs"] = {
        "data": f"sen12ms-cr:{triplets(folder / 'triplets.npz')}",
        "stride": 8,
    }
    document["teacher"] |= {"members": 2}
    document["student"] |= {"gate_target": "clear-share"}
    options, judge = options_from(document), judge_file(folder / "judge.npz")
    assert cross_validate(options, judge=judge, only=[0]) is None
    return options, judge, cross_validate(options, judge=judge)


def test_every_labeled_pair_is_judged_once_and_only_in_its_fold(validated):
    options, _, report = validated
    folds = [FoldAnswers.load(Path(options.out) / f"fold-{k}" / "answers.npz") for k in (0, 1)]
    assert sum(len(fold.labels) for fold in folds) == 48
    shown = set(report["labeled"])
    assert {"optical, clear", "SAR, clear", "optical + SAR, clouds 80-100 %"} <= shown
    assert {"optical, light x 0.8", "optical, haze + 0.02"} <= shown
    for row in report["labeled"].values():
        assert row["balanced_accuracy"] == pytest.approx(np.mean(row["folds"]))


def test_places_of_real_pairs_are_held_out_whole_and_judged_once(validated):
    options, _, report = validated
    folds = [FoldAnswers.load(Path(options.out) / f"fold-{k}" / "answers.npz") for k in (0, 1)]
    places = [set(fold.real_place.tolist()) for fold in folds]
    assert not places[0] & places[1]
    assert sorted(places[0] | places[1]) == sorted(report["real"]["places"])
    corners = [tuple(corner) for fold in folds for corner in fold.real_corner.tolist()]
    assert len(set(corners)) == len(corners) == 16
    assert report["real"]["n"] == 15  # the judge is not sure of one
    assert set(report["real"]["rows"]) >= set(INPUTS)
    assert -1 <= report["real"]["gate_rank_correlation"] <= 1


def test_the_agreement_is_counted_from_the_answers(validated):
    options, judge, report = validated
    folds = [FoldAnswers.load(Path(options.out) / f"fold-{k}" / "answers.npz") for k in (0, 1)]
    with np.load(judge) as stored:
        names = [tuple(stored[key][i].item() for key in ("id", "row", "col")) for i in range(16)]
        wanted = dict(zip(names, stored["probabilities"].argmax(axis=1).tolist(), strict=True))
    right = [
        wanted[IDS[triplet], row, column] == answer
        for fold in folds
        for (triplet, row, column), answer in zip(
            fold.real_corner.tolist(), fold.real_logits["SAR"].argmax(axis=1).tolist(), strict=True
        )
        if (triplet, row, column) != (0, 0, 0)
    ]
    assert report["real"]["rows"]["SAR"]["all"]["value"] == pytest.approx(np.mean(right))


def test_finished_folds_are_kept_and_other_options_refused(validated):
    options, judge, report = validated
    answers = Path(options.out) / "fold-0" / "answers.npz"
    before = answers.stat().st_mtime_ns
    assert cross_validate(options, judge=judge) == report
    assert answers.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="other options: seed"):
        cross_validate(options.evolve(seed=5))


def settings(options: dict, prefix: str = "") -> dict[str, str]:
    """Options as ``--set`` takes them."""
    found = {}
    for key, value in options.items():
        if isinstance(value, dict):
            found |= settings(value, f"{prefix}{key}.")
        elif value not in ("", (), None):
            found[prefix + key] = json.dumps(value)
    return found


def test_the_command_prints_the_report(validated):
    options, judge, report = validated
    words = ["cross-validate", "--data", options.data, "--out", options.out, "--judge", str(judge)]
    refused = CliRunner().invoke(main, [*words, "--folds", "2"])
    assert (refused.exit_code, "other options" in refused.output) == (1, True)
    same = [f"--set={key}={value}" for key, value in settings(options.as_dict()).items()]
    result = CliRunner().invoke(main, [*words, *same, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(json.dumps(report))
    text = CliRunner().invoke(main, [*words, *same]).output
    assert "cloudy + SAR" in text and "optical, light x 0.8" in text


def test_a_change_of_light_leaves_absent_pixels_and_the_cirrus_band():
    optical = np.full((2, 2, 2), 1000, np.uint16)
    optical[:, 0, 0] = 0
    changed = in_light(optical, ("B02", "B10"), 1.2, 0.02)
    np.testing.assert_array_equal(changed[:, 0, 0], 0)
    np.testing.assert_array_equal(changed[:, 1, 1], [1400, 1200])


def test_rank_correlation_at_known_values():
    up = np.arange(6.0)
    assert rank_correlation(up, up**3) == pytest.approx(1)
    assert rank_correlation(up, -np.exp(up)) == pytest.approx(-1)
    assert rank_correlation(up, np.ones(6)) == 0
    # Ties share their mean rank: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    tied = rank_correlation(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, np.nan + 4 * 0]))
    assert tied == pytest.approx(np.corrcoef([1, 2.5, 2.5], [1, 2, 3])[0, 1])
