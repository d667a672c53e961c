"""Invariants of the information regulation mechanism and of the gate's target."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esccs_edge.training.learning.irm import (
    clear_share_target,
    contributions,
    gate_target,
    log_ratio,
    modality_weights,
    present_weights,
)
from esccs_edge.training.scene_options import IrmOptions

ATOL = 1e-5  # float32 sigmoids and tanh


def logits(seed: int, count: int = 32, classes: int = 6, scale: float = 4.0):
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed)) * scale


def weights_of(decision, optical, sar, **options):
    rho = log_ratio(contributions(decision, optical, sar))
    return modality_weights(rho, IrmOptions(**options))


@pytest.mark.parametrize(
    ("rho", "expected"),
    [(2.0, (0.828, 1.172)), (5.0, (0.618, 1.382)), (0.5, (1.172, 0.828))],
)
def test_weights_at_the_documented_check_values(rho, expected):
    found = modality_weights(torch.tensor([math.log(rho)]), IrmOptions(beta=0.5))
    torch.testing.assert_close(found[0], torch.tensor(expected), atol=6e-4, rtol=0)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(-2, 2))
def test_the_weights_sum_to_two(seed, beta):
    decision = torch.softmax(logits(seed), dim=1)
    found = weights_of(decision, logits(seed + 1), logits(seed + 2), beta=beta)
    torch.testing.assert_close(found.sum(dim=1), torch.full((32,), 2.0), atol=ATOL, rtol=0)
    assert (found >= 0).all()


def test_beta_zero_or_equal_auxiliaries_give_weight_one_to_both():
    decision = torch.softmax(logits(0), dim=1)
    ones = torch.ones(32, 2)
    torch.testing.assert_close(weights_of(decision, logits(1), logits(2), beta=0.0), ones)
    torch.testing.assert_close(
        weights_of(decision, logits(1), logits(1), beta=0.7), ones, atol=ATOL, rtol=0
    )


def test_swapping_the_modalities_swaps_the_weights():
    decision = torch.softmax(logits(0), dim=1)
    one = weights_of(decision, logits(1), logits(2))
    other = weights_of(decision, logits(2), logits(1))
    torch.testing.assert_close(one, other.flip(1), atol=ATOL, rtol=0)


def test_permuting_the_batch_permutes_the_weights():
    decision, optical, sar = torch.softmax(logits(0), dim=1), logits(1), logits(2)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(3))
    whole = weights_of(decision, optical, sar)
    shuffled = weights_of(decision[order], optical[order], sar[order])
    torch.testing.assert_close(whole[order], shuffled)


def test_one_hot_outputs_give_finite_weights():
    certain = torch.eye(6) * 1e4
    decision = torch.eye(6)
    for optical, sar in ((certain, certain), (certain, certain.flip(0)), (certain.flip(0),) * 2):
        assert torch.isfinite(weights_of(decision, optical, sar)).all()


def test_the_weaker_modality_is_boosted_and_a_negative_beta_turns_that_round():
    decision = torch.eye(6)[:1]
    strong, weak = torch.eye(6)[:1] * 3, torch.eye(6)[:1] * 2.5
    found = weights_of(decision, strong, weak)
    assert found[0, 1] > found[0, 0]
    trusting = weights_of(decision, strong, weak, beta=-0.5)
    assert trusting[0, 0] > trusting[0, 1]


def test_the_ratio_is_clipped():
    options = IrmOptions(clip=4.0)
    extreme = modality_weights(torch.tensor([50.0]), options)
    at_limit = modality_weights(torch.tensor([math.log(4)]), options)
    torch.testing.assert_close(extreme, at_limit)


def test_no_gradient_flows_through_the_weights():
    optical, sar = logits(1).requires_grad_(), logits(2).requires_grad_()
    decision = torch.softmax(logits(0).requires_grad_(), dim=1)
    assert not weights_of(decision, optical, sar).requires_grad


def test_an_absent_modality_passes_its_weight_on():
    weights = torch.tensor([[0.6, 1.4]] * 4)
    availability = torch.tensor([[1.0, 1.0], [0.0, 0.5], [0.2, 0.0], [0.0, 0.0]])
    expected = torch.tensor([[0.6, 1.4], [0.0, 2.0], [2.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(present_weights(weights, availability), expected)


def test_the_gate_target_trusts_the_better_modality_and_never_an_absent_one():
    share = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.5, 0.5]])
    availability = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.5, 1.0]])
    target = gate_target(share, availability)
    assert target[0, 0] > 0.85
    assert target[1, 0] < 0.15
    assert target[2].tolist() == [0.0, 1.0]
    assert target[3, 0] == pytest.approx(1 / 3, abs=1e-3)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(4))
    assert gate_target(share, availability, 3.0)[0, 0] > target[0, 0]


def test_contributions_with_a_known_label_are_the_probabilities_of_that_label():
    optical, sar = logits(1, 4), logits(2, 4)
    labels = torch.tensor([0, 3, 5, 2])
    share = contributions(torch.nn.functional.one_hot(labels, 6).float(), optical, sar)
    rows = torch.arange(4)
    torch.testing.assert_close(share[:, 0], torch.softmax(optical, 1)[rows, labels])
    torch.testing.assert_close(share[:, 1], torch.softmax(sar, 1)[rows, labels])


def test_the_gate_follows_the_clear_share_and_reaches_the_absent_modalities_exactly():
    usable = torch.tensor([[1.0, 1.0], [0.5, 1.0], [0.0, 1.0], [0.4, 0.0], [0.0, 0.0]])
    found = clear_share_target(usable)
    wanted = torch.tensor([[0.97, 0.03], [0.485, 0.515], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(found, wanted)
