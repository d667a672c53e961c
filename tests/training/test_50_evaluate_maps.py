"""A segmentation judged on data whose classes have other names."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support.tiny import tiny_manifest

from esccs_edge.errors import InputError
from esccs_edge.training.datasets.map_dataset import MapSample, MemoryMaps
from esccs_edge.training.judging.evaluate_maps import evaluate_maps

SIDE = 32
#: Forest, River, Residential, SeaLake
MANIFEST = tiny_manifest(SIDE)
SAME = {"Forest": "trees", "River": "water", "Residential": "built", "SeaLake": "water"}


def land(classes, rows):
    """Rows of one class number each."""
    target = np.repeat(np.array(rows, np.uint8), SIDE // len(rows))[:, None].repeat(SIDE, 1)
    sample = MapSample(None, np.full((2, SIDE, SIDE), -10, np.float32), target)
    return MemoryMaps("land", classes, ("a",), ("test",), (), ("VV", "VH"), (sample,))


def model(rows):
    """Answers the same rows of classes whatever it sees."""
    label = np.repeat(np.array(rows, np.uint8), SIDE // len(rows))[:, None].repeat(SIDE, 1)
    return SimpleNamespace(run_batch=lambda pairs: [SimpleNamespace(label=label)] * len(pairs))


def test_several_classes_of_the_model_may_be_one_of_the_data():
    data = land(("snow", "water", "trees", "built"), [1, 1, 2, 3, 0, 0, 0, 0])
    found = evaluate_maps(model([1, 3, 0, 0, 0, 1, 2, 3]), MANIFEST, data, named=SAME)
    measures = found["overall"]["all"]
    assert measures["pixels"] == SIDE * SIDE // 2  # snow is nothing that the model could answer
    assert measures["iou"] == {"trees": 0.5, "water": 1.0, "built": 0.0}
    assert measures["oa"] == 0.75


def test_no_answer_is_wrong_whatever_it_is_called():
    data = land(("water", "trees", "built"), [0, 1])
    measures = evaluate_maps(model([1, 255]), MANIFEST, data, named=SAME)["overall"]["all"]
    assert (measures["failed"], measures["oa"]) == (SIDE * SIDE // 2, 0.5)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (None, "classes .'trees'. that the model does not know"),
        ({"Forest": "trees"}, "names are given for .'Forest'., expected for each"),
        ({**SAME, "Bog": "water"}, "names are given for"),
        (dict.fromkeys(SAME, "wood"), "has no classes .'wood'."),
    ],
)
def test_names_that_fit_neither_side_are_refused(named, message):
    with pytest.raises(InputError, match=message):
        evaluate_maps(model([0]), MANIFEST, land(("trees",), [0]), named=named)
