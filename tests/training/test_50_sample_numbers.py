"""Numbers of a report on maps and series: slow twins, places, bins and what is worst."""

from __future__ import annotations

import numpy as np
import pytest

from esccs_edge.training.judging import sample_numbers as numbers
from esccs_edge.training.judging.sample_numbers import JudgedSample

CLASSES = ("land", "water", "wood")


def judged(rng, i: int, *, right: float = 0.7, cover: float = 0.5, shape=(6, 5)) -> JudgedSample:
    truth = rng.integers(-1, len(CLASSES), shape)
    other = rng.integers(0, len(CLASSES) + 1, shape)
    found = np.where((rng.uniform(size=shape) < right) & (truth >= 0), truth, other)
    percent = np.where(found < len(CLASSES), rng.integers(30, 101, shape), 0)
    return JudgedSample(i, f"place-{i % 4}", {}, truth, found, percent, cover, cover / 2)


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return [judged(rng, i, cover=i / 40) for i in range(40)]


def report(samples, **changes):
    asked = {"is_map": True, "is_series": False, **changes}
    return numbers.sample_numbers(samples, CLASSES, **asked)


def test_measures_equal_those_counted_pixel_by_pixel(samples):
    found, _ = report(samples)
    pairs = [
        (t, f)
        for one in samples
        for t, f in zip(one.truth.ravel().tolist(), one.found.ravel().tolist(), strict=True)
        if t >= 0
    ]
    assert (found["n"], found["places"], found["counted"]) == (40, 4, len(pairs))
    assert found["agreement"]["all"]["value"] == pytest.approx(np.mean([t == f for t, f in pairs]))
    recalls, ious = [], []
    for k in range(len(CLASSES)):
        hits = sum(t == f == k for t, f in pairs)
        recalls.append(hits / sum(t == k for t, _ in pairs))
        ious.append(hits / sum(k in pair for pair in pairs))
    assert found["agreement"]["balanced"]["value"] == pytest.approx(np.mean(recalls))
    assert found["miou"]["value"] == pytest.approx(np.mean(ious))
    assert [row["iou"] for row in found["by_class"]] == pytest.approx(ious)
    assert found["overall"]["failed"] == sum(f == len(CLASSES) for _, f in pairs)
    for part in (found["miou"], *found["agreement"].values()):
        assert part["low"] < part["value"] < part["high"]


def test_bars_of_reliability_hold_every_answer_once(samples):
    found, _ = report(samples)
    assert sum(bar["n"] for bar in found["reliability"]) == found["counted"]
    sure = [(one.percent[one.truth >= 0], (one.truth == one.found)[one.truth >= 0])
            for one in samples]  # fmt: skip
    percent, right = (np.concatenate(parts) for parts in zip(*sure, strict=True))
    inside = (percent >= 70) & (percent < 80)
    bar = found["reliability"][7]
    assert bar["n"] == inside.sum()
    assert bar["accuracy"] == pytest.approx(right[inside].mean())
    assert bar["confidence"] == pytest.approx(percent[inside].mean() / 100)


def test_bins_of_cover_are_judged_apart_with_their_gate(samples):
    found, _ = report(samples)
    clear = [one for one in samples if one.cover < 0.2]
    alone, _ = report(clear)
    row = found["by_cloud"]["0-20"]
    assert row["n"] == alone["counted"] and row["value"] == alone["miou"]["value"]
    assert row["gate_optical"] == pytest.approx(np.mean([one.gate for one in clear]))


def test_one_place_has_no_interval_and_an_unknown_cover_no_bin():
    one = judged(np.random.default_rng(1), 0, cover=np.nan)
    found, _ = report([one])
    assert found["miou"]["low"] is None and found["agreement"]["all"]["high"] is None
    assert not any(row["n"] for row in found["by_cloud"].values())


def test_the_worst_maps_have_the_fewest_pixels_right(samples):
    _, worst = report(samples)
    shares = [one.share_right for one in worst]
    assert len(worst) == numbers.WORST and shares == sorted(shares)
    assert max(shares) <= min(one.share_right for one in samples if one not in worst)


def test_the_worst_series_are_wrong_and_sure():
    rng = np.random.default_rng(2)
    series = [judged(rng, i, shape=()) for i in range(60)]
    found, worst = report(series, is_map=False, is_series=True)
    assert found["unit"] == "series" and "miou" not in found
    assert worst and all(one.truth != one.found for one in worst)
    sure = [int(one.percent) for one in worst]
    assert sure == sorted(sure, reverse=True)
