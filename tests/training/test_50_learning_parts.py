"""Shifts, means and optimizers of training, by hand."""

from __future__ import annotations

import pytest
import torch

from esccs_edge.training.learning.augment import shifted
from esccs_edge.training.options import Schedule
from esccs_edge.training.stages.stage import SGD_RATE, Stage, kept_mean


def test_each_place_is_shifted_by_itself_and_its_images_alike():
    torch.manual_seed(0)
    image = torch.arange(64.0).reshape(1, 1, 8, 8).repeat(16, 1, 1, 1)
    found = shifted({"optical": image, "sar": 2 * image}, 3)
    assert torch.equal(found["sar"], 2 * found["optical"])
    assert found["optical"].shape == image.shape
    padded = torch.nn.functional.pad(image[:1], (3,) * 4, mode="reflect")[0, 0]
    windows = {
        tuple(padded[r : r + 8, c : c + 8].flatten().tolist()) for r in range(7) for c in range(7)
    }
    seen = [tuple(one.flatten().tolist()) for one in found["optical"]]
    assert set(seen) <= windows
    assert len(set(seen)) > 4


def test_no_shift_leaves_the_images():
    image = torch.randn(3, 2, 6, 6)
    assert torch.equal(shifted({"sar": image}, 0)["sar"], image)


def test_few_kept_samples_weigh_no_more_than_their_number():
    values = torch.tensor([4.0, 8.0, 100.0, 100.0])
    kept = torch.tensor([True, False, False, True])
    present = torch.tensor([True, True, True, False])
    assert float(kept_mean(values, kept, present)) == pytest.approx(4 / 3)
    nobody = torch.zeros(4, dtype=torch.bool)
    assert float(kept_mean(values, kept, nobody)) == 0


@pytest.mark.parametrize(
    ("optimizer", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_a_schedule_chooses_the_optimizer(optimizer, kind):
    schedule = Schedule(epochs=2, learning_rate=1e-3, optimizer=optimizer)
    stage = Stage(torch.nn.Linear(2, 2), schedule, "any", 0)
    stage.trainer = type("T", (), {"estimated_stepping_batches": 10})()
    found = stage.configure_optimizers()["optimizer"]
    assert type(found) is kind
    highest = 1e-3 * (SGD_RATE if optimizer == "sgd" else 1.0)
    assert found.param_groups[0]["initial_lr"] == pytest.approx(highest)
    assert [group["weight_decay"] > 0 for group in found.param_groups] == [True, False]
