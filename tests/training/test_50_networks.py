"""Blocks of the networks: what a block computes while taught is what it computes afterwards."""

from __future__ import annotations

import pytest
import torch

from esccs_edge.training.learning.networks import ReparameterizedBlock


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(5, 5, 1), (5, 5, 2), (4, 8, 1)])
def test_a_reparameterized_block_equals_its_three_parts(inputs, outputs, stride):
    torch.manual_seed(0)
    block = ReparameterizedBlock(inputs, outputs, stride)
    for norm in (block.bn3, block.bn):
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.normal_(norm.bias)
    images = torch.randn(6, inputs, 9, 9)
    for norm in (block.bn3, block.bn):
        norm.momentum = 1.0  # the running statistics become those of the batch...
    taught = block(images)
    for norm in (block.bn3, block.bn):  # ...but for the variance, which torch unbiases
        count = taught.numel() / outputs
        norm.running_var *= (count - 1) / count
    block.eval()
    torch.testing.assert_close(block(images), taught, rtol=0, atol=1e-5)
    assert block.has_identity == (inputs == outputs and stride == 1)
