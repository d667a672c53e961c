"""Blocks of the networks: what a block computes while taught is what it computes afterwards."""

from __future__ import annotations

import copy

import pytest
import torch

from esccs_edge.training.learning.networks import (
    Ensemble,
    ReparameterizedBlock,
    StudentNet,
    UnimodalNet,
)
from esccs_edge.training.scene_options import EncoderOptions


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


def test_absent_images_do_not_reach_the_batch_statistics_in_training():
    torch.manual_seed(0)
    size = EncoderOptions(width=4, blocks=(1, 1), stem_stride=2)
    net = StudentNet(3, 2, 5, size, size)
    optical, sar = torch.randn(6, 3, 16, 16), torch.randn(6, 2, 16, 16)
    availability = torch.ones(6, 2)
    availability[:2, 0] = 0
    optical[:2] = 0
    twin = copy.deepcopy(net)
    logits, gate = net.train()(optical, sar, availability)
    twin.train().optical(optical[2:])
    for own, other in zip(net.optical.buffers(), twin.optical.buffers(), strict=True):
        torch.testing.assert_close(own, other)
    assert torch.isfinite(logits).all()
    assert torch.equal(gate[:2], torch.tensor([[0.0, 1.0]] * 2))
    nobody = net(optical * 0, sar, availability * torch.tensor([0.0, 1.0]))
    assert torch.isfinite(nobody[0]).all()


def test_an_ensemble_answers_with_the_mean_of_its_members_probabilities():
    torch.manual_seed(0)
    size = EncoderOptions(width=4, blocks=(1,), stem_stride=4)
    members = [UnimodalNet(3, 5, size).eval() for _ in range(3)]
    images = torch.randn(4, 3, 16, 16)
    wanted = torch.stack([net(images).softmax(dim=1) for net in members]).mean(dim=0)
    torch.testing.assert_close(Ensemble(members)(images).exp(), wanted)
