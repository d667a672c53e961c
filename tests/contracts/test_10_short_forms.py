"""What a person sees who types an object's name: one short line that says what it is."""

from __future__ import annotations

import numpy as np

from esccs_edge import Classifier, Flag, Gate, Prediction
from esccs_edge.contracts.tasks.semantic_segmentation import PixelGate, Segmentation
from esccs_edge.contracts.tasks.series_classification import SeriesPrediction


def test_answers_say_what_was_found_and_whom_it_was_believed():
    parts = ("Forest", 0.934, {"Forest": 0.934, "River": 0.066}, Gate(0.31, 0.69))
    assert repr(Prediction(*parts)) == "<Prediction Forest 0.93, optical 0.31, SAR 0.69>"
    flagged = Prediction(*parts, frozenset({Flag.UNFAMILIAR, Flag.CLIPPED}))
    assert repr(flagged).endswith("SAR 0.69, CLIPPED, UNFAMILIAR>")
    assert repr(SeriesPrediction(*parts)).startswith("<SeriesPrediction Forest 0.93")


def test_maps_name_their_largest_classes():
    label = np.array([[0, 0, 0, 1], [2, 2, 255, 255]], np.uint8)
    same = np.zeros((2, 4), np.uint8)
    found = Segmentation(
        label,
        same,
        same[None],
        ("Land", "Lake", "Ice", "Rock"),
        frozenset(),
        PixelGate(same, same),
    )
    assert repr(found) == "<Segmentation 2 x 4 pixels, Land 50%, Ice 33%, Lake 17%>"
    nothing = Segmentation(
        np.full((2, 2), 255, np.uint8), same, same, ("a", "b"), frozenset({Flag.ALL_NODATA}),
        PixelGate(same, same),
    )  # fmt: skip
    assert repr(nothing) == "<Segmentation 2 x 2 pixels, no data, ALL_NODATA>"


def test_what_opens_a_model_says_which(bundle):
    manifest = bundle.manifest
    assert repr(bundle).startswith(f"<Bundle {manifest.name}, scene-classification of ")
    assert str(bundle.folder) in repr(bundle)
    assert f"from optical ({len(manifest.modalities['optical'].channels)}) + sar" in repr(manifest)
    with Classifier(bundle, backend="cpu") as classifier:
        assert repr(classifier).startswith(f"<Classifier of {manifest.name}, ")
        assert "on cpu in " in repr(classifier)
    assert max(map(len, map(repr, (manifest, classifier)))) < 120
