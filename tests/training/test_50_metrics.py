"""Measures against hand-made numbers and slow twins; temperature; evaluation of a bundle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import CLASSES, raw_pair, tiny_bundle

from esccs_edge.classifier import Classifier
from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.errors import InputError
from esccs_edge.training.datasets import MemoryDataset
from esccs_edge.training.judging.evaluate import evaluate
from esccs_edge.training.judging.metrics import (
    FAILED,
    calibration_error_by_chance,
    expected_calibration_error,
    scores,
    scores_by_cloud,
)
from esccs_edge.training.judging.temperature import fit_temperature

EXACT = 1e-12  # double precision, a handful of operations


def measured(labels, predicted, confidence=None, classes=3):
    confidence = np.ones(len(labels)) if confidence is None else np.asarray(confidence)
    return scores(np.array(labels), np.array(predicted), confidence, classes)


def test_measures_of_a_hand_made_example():
    found = measured([0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1, 2, 0])
    assert found["oa"] == pytest.approx(6 / 8, abs=EXACT)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 + 1 / 2) / 3, abs=EXACT)
    assert found["macro_f1"] == pytest.approx((3 / 4 + 4 / 5 + 2 / 3) / 3, abs=EXACT)
    expected = (4 * 4 + 2 * 3 + 2 * 1) / 64
    assert found["kappa"] == pytest.approx((6 / 8 - expected) / (1 - expected), abs=EXACT)
    assert (found["n"], found["failed"]) == (8, 0)


def test_a_failed_pair_counts_as_wrong():
    found = measured([0, 1, 1], [0, 1, FAILED], confidence=[1.0, 1.0, 0.0])
    assert found["oa"] == pytest.approx(2 / 3)
    assert found["balanced_accuracy"] == pytest.approx(0.75)
    assert found["failed"] == 1


def test_a_class_that_does_not_occur_does_not_count():
    assert measured([0, 0, 1], [0, 0, 1], classes=10)["balanced_accuracy"] == 1.0


def test_chance_agreement_has_kappa_zero():
    assert measured([0, 0, 1, 1], [0, 1, 0, 1])["kappa"] == pytest.approx(0, abs=EXACT)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_equals_its_slow_twin(pairs):
    confidence = np.array([c for c, _ in pairs])
    right = np.array([r for _, r in pairs])
    expected = 0.0
    for position in range(15):
        inside = (np.ceil(confidence * 15) == position + 1) | ((position == 0) & (confidence == 0))
        if inside.any():
            expected += inside.sum() * abs(confidence[inside].mean() - right[inside].mean())
    found = expected_calibration_error(confidence, right)
    assert found == pytest.approx(expected / len(pairs), abs=1e-9)


def test_a_perfectly_calibrated_model_shows_the_error_by_chance():
    drawn = np.random.default_rng(3)
    confidence = drawn.uniform(0.2, 1.0, 400)
    shown = [
        expected_calibration_error(confidence, drawn.random(400) < confidence) for _ in range(400)
    ]
    assert calibration_error_by_chance(confidence) == pytest.approx(np.mean(shown), rel=0.05)
    assert calibration_error_by_chance(np.ones(9)) == 0  # sure of everything: no chance in it


def test_pairs_of_unknown_cover_count_overall_only():
    found = scores_by_cloud(
        np.array([0, 1, 1]), np.array([0, 1, 0]), np.ones(3), np.array([0.1, np.nan, 0.9]), 2
    )
    assert found["overall"]["n"] == 3
    assert [found["by_cloud"][name]["n"] for name in CLOUD_BINS] == [1, 0, 0, 0, 1]
    assert found["by_cloud"]["20-40"]["oa"] is None


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_drawn_labels_is_found(true_temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 4))
    powers = np.exp(logits / true_temperature)
    cumulative = np.cumsum(powers / powers.sum(axis=1, keepdims=True), axis=1)
    labels = (rng.random((20_000, 1)) > cumulative).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.05)


@pytest.fixture
def classifier(tmp_path):
    with Classifier(tiny_bundle(tmp_path / "bundle"), backend="cpu") as ready:
        yield ready


def dataset_of(manifest, count=12, **changes) -> MemoryDataset:
    pairs = [raw_pair(manifest, seed) for seed in range(count)]
    values = {
        "name": "made", "classes": CLASSES, "labels": np.arange(count) % len(CLASSES),
        "groups": tuple(map(str, range(count))), "splits": ("test",) * count,
        "optical_channels": manifest.modalities["optical"].channels,
        "sar_channels": manifest.modalities["sar"].channels,
        "opticals": np.stack([p[0] for p in pairs]), "sars": np.stack([p[1] for p in pairs]),
    }  # fmt: skip
    return MemoryDataset(**{**values, **changes})


def test_evaluate_agrees_with_asking_the_classifier_oneself(classifier):
    dataset = dataset_of(classifier.manifest)
    report = evaluate(classifier, dataset)
    answers = [classifier.classify(*dataset.pair(i)).label for i in range(len(dataset))]
    right = [a == CLASSES[k] for a, k in zip(answers, dataset.labels, strict=True)]
    assert report["overall"]["oa"] == pytest.approx(np.mean(right))
    assert report["overall"]["n"] == 12
    assert all(part["n"] == 0 for part in report["by_cloud"].values())


def test_evaluate_with_clouds_puts_every_image_into_every_bin_and_repeats(classifier):
    dataset = dataset_of(classifier.manifest)
    report = evaluate(classifier, dataset, clouds_seeds=[5])
    assert [report["by_cloud"][name]["n"] for name in CLOUD_BINS] == [12] * 5
    assert report == evaluate(classifier, dataset, clouds_seeds=[5])


def test_evaluate_picks_the_models_bands_from_a_richer_or_reordered_set(classifier):
    dataset = dataset_of(classifier.manifest)
    order = np.arange(13)[::-1]
    reordered = dataset_of(
        classifier.manifest,
        optical_channels=tuple(dataset.optical_channels[i] for i in order),
        opticals=dataset.opticals[:, order],
    )
    assert evaluate(classifier, reordered) == evaluate(classifier, dataset)


def test_evaluate_counts_a_pair_without_usable_pixels_as_failed(classifier):
    dataset = dataset_of(classifier.manifest)
    opticals, sars = dataset.opticals.copy(), dataset.sars.copy()
    opticals[3], sars[3] = 0, np.nan
    report = evaluate(classifier, dataset_of(classifier.manifest, opticals=opticals, sars=sars))
    assert report["overall"]["failed"] == 1


def test_evaluate_refuses_what_the_model_refuses_before_it_asks(classifier):
    dataset = dataset_of(classifier.manifest)
    asked = classifier.stats()
    numbers = dataset_of(classifier.manifest, opticals=dataset.opticals.astype(np.float32))
    with pytest.raises(InputError, match="pair 0 of made: optical float values") as caught:
        evaluate(classifier, numbers)
    assert "uint16" in caught.value.hint and classifier.stats() == asked


def test_what_is_simulated_never_knows_the_label(classifier):
    """Answers do not move with the labels; with SAR from the class they would."""
    dataset = dataset_of(classifier.manifest, sar_channels=(), sars=None)
    other = replace(dataset, labels=dataset.labels[::-1].copy())
    reports = [
        evaluate(classifier, d, clouds_seeds=[1], simulate_sar=True) for d in (dataset, other)
    ]
    counts = [np.array(report["confusion"]).sum(axis=0).tolist() for report in reports]
    assert counts[0] == counts[1] and reports[0]["simulated"] == ["sar", "clouds"]
    assert evaluate(classifier, dataset)["simulated"] == []


def test_data_without_sar_are_judged_on_optical_alone(classifier):
    dataset = dataset_of(classifier.manifest)
    bare = replace(dataset, sar_channels=(), sars=None)
    assert evaluate(classifier, bare) == evaluate(classifier, dataset, only="optical")


def test_evaluate_refuses_unknown_classes_missing_bands_and_unlabeled_data(classifier):
    manifest = classifier.manifest
    with pytest.raises(InputError, match="Glacier"):
        evaluate(classifier, dataset_of(manifest, classes=("Glacier", *CLASSES[1:])))
    dataset = dataset_of(manifest)
    with pytest.raises(InputError, match="B12"):
        evaluate(classifier, dataset_of(manifest, optical_channels=dataset.optical_channels[:-1],
                                       opticals=dataset.opticals[:, :-1]))  # fmt: skip
    with pytest.raises(InputError, match="no labeled pair"):
        evaluate(classifier, dataset_of(manifest, labels=np.full(12, -1)))
