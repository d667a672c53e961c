"""Losses of maps on values that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from esccs_edge.training.learning.map_losses import (
    answer_loss,
    feature_loss,
    pixel_gate_loss,
    removal_loss,
    segmentation_loss,
)


def test_pixels_that_do_not_count_carry_no_loss():
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, :, 0, 0] = torch.tensor([9.0, -9.0])
    target = torch.tensor([[[255, 0], [1, 255]]])
    assert segmentation_loss(logits, target).item() == pytest.approx(math.log(2))
    empty = segmentation_loss(logits.requires_grad_(), torch.full((1, 2, 2), 255))
    empty.backward()
    assert empty.item() == 0


def test_logits_are_brought_to_the_grid_of_a_coarser_label_map():
    logits = torch.zeros(1, 2, 160, 160)
    logits[:, 1, :, 80:] = 40.0
    logits[:, 0, :, :80] = 40.0
    target = torch.zeros(1, 48, 48, dtype=torch.int64)
    target[:, :, 24:] = 1
    assert segmentation_loss(logits, target).item() < 1e-3


def test_removal_weighs_a_cloudy_pixel_six_times():
    restored, clear = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.5, 0.5]]]])
    error = (0.25 + 1e-6) ** 0.45
    found = removal_loss(restored, clear, torch.tensor([[[0.0, 1.0]]])).item()
    assert found == pytest.approx((1 + 6) / 2 * error)


def test_features_are_imitated_at_clear_pixels_and_averaged_over_all():
    student, teacher = torch.zeros(1, 3, 1, 4), torch.ones(1, 3, 1, 4)
    cloud = torch.tensor([[[1.0, 1.0, 1.0, 0.0]]])
    assert feature_loss(student, teacher, cloud).item() == pytest.approx(0.25)


def test_answers_are_imitated_at_every_pixel_that_a_modality_shows():
    taught = torch.tensor([2.0, 0.0])[None, :, None, None].expand(1, 2, 1, 2)
    student = taught.clone()
    seen = torch.ones(1, 1, 2)
    assert answer_loss(student, taught, seen, 2.0).item() == pytest.approx(0, abs=1e-6)
    student[..., 1] = -student[..., 1]
    p = 1 / (1 + math.exp(-1.0))
    one = 4 * (p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p))
    assert answer_loss(student, taught, seen, 2.0).item() == pytest.approx(one / 2, rel=1e-5)
    seen[..., 1] = 0
    assert answer_loss(student, taught, seen, 2.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("cloud", "present", "wanted"),
    [(0.0, (1, 1), (0.97, 0.03)), (1.0, (1, 1), (0, 1)), (0.0, (0, 1), (0, 1)),
     (1.0, (0, 1), (0, 1)), (0.0, (1, 0), (1, 0)), (0.4, (1, 0), (1, 0))],
)  # fmt: skip
def test_the_gate_should_show_optical_where_it_is_clear_and_there(cloud, present, wanted):
    def loss(share: float) -> float:
        gate = torch.tensor([share, 1 - share])[None, :, None, None]
        there = torch.tensor(present, dtype=torch.float32)[None, :, None, None]
        return pixel_gate_loss(gate, torch.full((1, 1, 1), cloud), there).item()

    assert loss(wanted[0]) == pytest.approx(0, abs=1e-4)
    assert all(loss(share) > 0.01 for share in (0.2, 0.5, 0.8))
