"""Which answers of the teacher may teach."""

from __future__ import annotations

import torch

from esccs_edge.training.learning.pseudo_labels import PseudoLabelFilter, filter_report
from esccs_edge.training.scene_options import FilterOptions


def answers(confidences: list[float], labels: list[int], classes: int = 3):
    """Rows with the given confidence in the given class, the rest spread evenly."""
    rows = []
    for confidence, label in zip(confidences, labels, strict=True):
        row = [(1 - confidence) / (classes - 1)] * classes
        row[label] = confidence
        rows.append(row)
    return torch.tensor(rows)


def kept(confidences, labels, reliability=None, **options) -> list[bool]:
    probabilities = answers(confidences, labels)
    belief = torch.ones(len(labels)) if reliability is None else torch.tensor(reliability)
    options = {"confidence": 0.7, "top_share": 1.0, **options}
    chosen = PseudoLabelFilter.fit(probabilities, belief, FilterOptions(**options))
    return chosen.keep(probabilities, belief).tolist()


def test_unsure_answers_are_left_out():
    assert kept([0.9, 0.69, 0.71, 0.5], [0, 0, 1, 1]) == [True, False, True, False]


def test_only_the_top_share_of_each_class_is_kept():
    confidences = [0.99, 0.95, 0.9, 0.85, 0.8, 0.75]
    assert kept(confidences, [0, 0, 0, 0, 1, 1], top_share=0.5) == [
        True, True, False, False, True, False,
    ]  # fmt: skip


def test_no_answer_below_the_threshold_teaches_however_rare_its_class():
    confidences, labels = [0.99, 0.98, 0.97, 0.96, 0.6, 0.55, 0.5], [0, 0, 0, 0, 1, 1, 1]
    assert kept(confidences, labels) == [True] * 4 + [False] * 3


def test_a_confident_answer_on_an_unreliable_sample_never_teaches():
    assert kept([0.99, 0.99], [0, 1], reliability=[0.2, 0.9]) == [False, True]


def test_unreliable_answers_do_not_set_the_thresholds():
    found = kept(
        [0.99, 0.99, 0.8, 0.75], [0, 0, 0, 0], reliability=[0.0, 0.0, 1.0, 1.0], top_share=0.5
    )
    assert found == [False, False, True, False]


def test_a_class_that_is_never_answered_uses_the_general_threshold():
    chosen = PseudoLabelFilter.fit(
        answers([0.9], [0]), torch.ones(1), FilterOptions(confidence=0.7)
    )
    later = answers([0.65, 0.75], [2, 2])
    assert chosen.keep(later, torch.ones(2)).tolist() == [False, True]


def test_the_report_counts_what_is_kept_and_how_much_of_it_is_right():
    probabilities = answers([0.9, 0.9, 0.9, 0.9], [0, 1, 2, 0])
    mask = torch.tensor([True, True, True, False])
    report = filter_report(mask, probabilities, torch.tensor([0, 0, -1, 0]))
    assert report == {"kept_share": 0.75, "kept_precision": 0.5}
    unknown = filter_report(mask, probabilities, torch.full((4,), -1))
    assert unknown == {"kept_share": 0.75}
