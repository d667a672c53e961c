"""Measures of label maps, each against a slow twin that counts pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from esccs_edge.training.judging.map_metrics import PixelCounts, map_confusion, map_measures


def slow_measures(target, answered, classes):
    pairs = [(t, a) for t, a in zip(target.ravel(), answered.ravel(), strict=True) if t != 255]
    ious, recalls, weighted = [], [], 0.0
    for k in range(classes):
        both = sum(t == k and a == k for t, a in pairs)
        either = sum(t == k or a == k for t, a in pairs)
        occurs = sum(t == k for t, _ in pairs)
        ious.append(both / either if either else None)
        if occurs:
            recalls.append(both / occurs)
            weighted += occurs / len(pairs) * both / either
    known = [iou for iou in ious if iou is not None]
    return {
        "pixels": len(pairs),
        "failed": sum(a >= classes for _, a in pairs),
        "oa": sum(t == a for t, a in pairs) / len(pairs),
        "mean_accuracy": sum(recalls) / len(recalls),
        "fwiou": weighted,
        "miou": sum(known) / len(known),
        "iou": ious,
    }


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    target = rng.choice([0, 1, 2, 255], (20, 30)).astype(np.uint8)
    answered = np.where(rng.random(target.shape) < 0.6, target, rng.choice([0, 1, 2, 255]))
    return target, answered.astype(np.uint8)


def test_measures_are_those_of_counting_by_hand(drawn):
    found = map_measures(map_confusion(*drawn, 4))
    expected = slow_measures(*drawn, 4)
    assert found.pop("iou")[3] is None and expected.pop("iou")[3] is None
    assert found == pytest.approx(expected)


def test_pixels_that_do_not_count_change_nothing(drawn):
    target, answered = drawn
    other = np.where(target == 255, 1, answered)
    assert (map_confusion(target, answered, 3) == map_confusion(target, other, 3)).all()


def test_an_answer_of_no_class_is_wrong_and_counted():
    found = map_measures(map_confusion(np.uint8([0, 0, 1, 1]), np.uint8([0, 255, 1, 1]), 2))
    assert (found["failed"], found["oa"], found["iou"]) == (1, 0.75, [0.5, 1.0])


def test_without_pixels_there_is_no_measure():
    found = map_measures(map_confusion(np.uint8([255]), np.uint8([0]), 2))
    assert found["pixels"] == 0 and found["miou"] is None and found["iou"] == [None, None]


def test_clear_and_cloudy_pixels_of_each_bin_add_up_to_all(drawn):
    target, answered = drawn
    counts = PixelCounts(3)
    cloud = np.zeros(target.shape, bool)
    cloud[:6] = True
    counts.add(target, answered, cloud, 0.3)
    counts.add(target, answered, np.ones_like(cloud), 1.0)
    counts.add(target, answered, None, None)
    report = counts.report(("a", "b", "c"))
    overall, by_cloud = report["overall"], report["by_cloud"]
    cloudy = map_measures(map_confusion(target[:6], answered[:6], 3))
    assert by_cloud["20-40"]["cloudy"]["miou"] == pytest.approx(cloudy["miou"])
    assert by_cloud["80-100"]["clear"]["pixels"] == 0
    assert by_cloud["unknown"]["all"]["pixels"] == (target != 255).sum()
    assert overall["all"]["pixels"] == 3 * (target != 255).sum()
    assert list(overall["all"]["iou"]) == ["a", "b", "c"]
    assert "iou" not in by_cloud["unknown"]["all"]
    assert set(by_cloud) == {"0-20", "20-40", "40-60", "60-80", "80-100", "unknown"}
