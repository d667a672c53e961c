"""Losses, per-sample; reliability and the trusted decision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esccs_edge.training.learning.losses import (
    distillation_loss,
    gate_loss,
    label_loss,
    soften,
)
from esccs_edge.training.learning.reliability import (
    known_or,
    teacher_reliability,
    trusted_decision,
)

FLOAT32_RTOL = 2e-5  # sums of a few float32 logarithms


def logits(seed: int, count: int = 6, classes: int = 5):
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("temperature", [1.0, 3.0, 8.0])
def test_distillation_equals_the_kl_divergence_written_out(temperature):
    teacher, student = logits(0).double().numpy(), logits(1).double().numpy()

    def softmax(z):
        powers = np.exp(z / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = softmax(teacher), softmax(student)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=1)
    found = distillation_loss(soften(logits(0), temperature), logits(1), temperature)
    np.testing.assert_allclose(found.numpy(), expected, rtol=FLOAT32_RTOL)


def test_distillation_is_zero_for_equal_logits_and_finite_for_one_hot_targets():
    same = distillation_loss(soften(logits(0), 3.0), logits(0), 3.0)
    assert same.abs().max() < 1e-5
    one_hot = torch.eye(5)
    assert torch.isfinite(distillation_loss(one_hot, logits(1, 5), 1.0)).all()


def test_distillation_on_a_one_hot_target_is_cross_entropy():
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    one_hot = torch.nn.functional.one_hot(labels, 5).float()
    torch.testing.assert_close(
        distillation_loss(one_hot, logits(1), 1.0), label_loss(logits(1), labels)
    )


def test_no_gradient_reaches_the_teacher():
    teacher = logits(0).requires_grad_()
    student = logits(1).requires_grad_()
    distillation_loss(soften(teacher, 3.0), student, 3.0).sum().backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_gradient_size_hardly_depends_on_the_temperature():
    norms = []
    for temperature in (4.0, 16.0):
        student = logits(1).requires_grad_()
        distillation_loss(soften(logits(0), temperature), student, temperature).sum().backward()
        norms.append(float(student.grad.norm()))
    assert norms[1] == pytest.approx(norms[0], rel=0.5)


def test_unknown_labels_cost_nothing():
    loss = label_loss(logits(0, 3), torch.tensor([1, -1, 2]))
    assert loss[1] == 0
    assert loss[0] > 0


def test_gate_loss_is_zero_at_its_target_and_where_nothing_is_wanted():
    target = torch.tensor([[0.3, 0.7], [0.0, 1.0], [0.0, 0.0]])
    gate = torch.tensor([[0.3, 0.7], [0.0, 1.0], [0.5, 0.5]])
    assert gate_loss(gate, target).abs().max() < 1e-6
    assert (gate_loss(torch.tensor([[0.7, 0.3]]), target[:1]) > 0.1).all()


def test_reliability_rises_from_0_to_1_between_its_bounds():
    found = teacher_reliability(torch.tensor([0.0, 0.4, 0.65, 0.9, 1.0]), 0.4, 0.9)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


def test_the_trusted_decision_follows_the_teacher_when_reliable_and_sar_when_not():
    teacher, sar = logits(0), logits(1)
    belief = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0, 0.25])
    decision = trusted_decision(teacher, sar, belief)
    torch.testing.assert_close(decision[0], soften(teacher)[0])
    torch.testing.assert_close(decision[1], soften(sar)[1])
    torch.testing.assert_close(decision.sum(dim=1), torch.ones(6))


def test_a_known_label_replaces_the_decision():
    decision = torch.full((2, 3), 1 / 3)
    found = known_or(decision, torch.tensor([2, -1]))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]]))
