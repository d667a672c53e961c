"""Networks for maps: what meets where, what an absent modality may not reach, what is exported."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from esccs_edge.errors import InputError
from esccs_edge.training.learning.cloudseg import CloudSegNet, CloudSegTeacher, presence
from esccs_edge.training.learning.fuse_block import FuseBlock
from esccs_edge.training.segmentation_options import PyramidOptions

SMALL = PyramidOptions(widths=(4, 6, 8, 8), decoder=(8, 6, 6, 4, 4))
NARROW_MIT = PyramidOptions(
    encoder="esccs_edge.training.learning.mix_transformer:mix_transformer",
    widths=(8, 16, 24, 32), blocks=(1, 1, 2, 1), decoder=(16, 12, 8, 8, 4),
)  # fmt: skip
#: Sums of the same values in another order.
ATOL = 1e-5


def inputs(count: int = 3, size: int = 64):
    torch.manual_seed(0)
    return torch.randn(count, 4, size, size), torch.randn(count, 2, size, size)


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("options", [SMALL, NARROW_MIT], ids=["convolutional", "mit"])
@pytest.mark.parametrize("use", ["weighing", "reported"])
def test_logits_and_gate_are_maps_of_the_size_of_the_image(options, use):
    net = CloudSegNet(4, 2, 5, options, use, removes_clouds=True)
    optical, sar = inputs()
    seen = net.seen(optical, sar, torch.ones(3, 2))
    assert seen.logits.shape == (3, 5, 64, 64) and seen.gate.shape == (3, 2, 64, 64)
    assert seen.clear.shape == optical.shape and seen.features.shape == (3, 4, 64, 64)
    torch.testing.assert_close(seen.gate.sum(dim=1), torch.ones(3, 64, 64))
    torch.stack([x.mean() for x in (seen.logits, seen.gate, seen.clear)]).sum().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None]
    assert all(name.startswith("streams.blocks.3.corrections.1") for name in idle), idle


def test_all_networks_of_the_default_have_at_most_a_million_weights():
    net = CloudSegNet(13, 2, 10, PyramidOptions(), removes_clouds=True)
    assert parameters(net) <= 1_000_000 and parameters(net.deployed()) < parameters(net)


def test_the_paper_s_size_has_its_widths_and_heads():
    from esccs_edge.training.learning.mix_transformer import Attention, mix_transformer

    options = replace(NARROW_MIT, widths=(64, 128, 320, 512), blocks=(3, 8, 27, 3))
    with torch.device("meta"):
        encoder = mix_transformer(3, options)
    assert encoder.features == (64, 128, 320, 512)
    first = [next(m for m in stage.modules() if isinstance(m, Attention))
             for stage in encoder.stages]  # fmt: skip
    assert [attention.heads for attention in first] == [1, 2, 5, 8]
    # As SegFormer states for its encoder MiT-B4: about 61 million.
    assert 60e6 < parameters(encoder) < 62.5e6


@pytest.mark.parametrize("use", ["weighing", "reported"])
@pytest.mark.parametrize(("lost", "shares"), [(0, (0.0, 1.0)), (1, (1.0, 0.0))])
def test_pixels_of_an_absent_modality_reach_nothing(use, lost, shares):
    net = CloudSegNet(4, 2, 3, SMALL, use).eval()
    pair, other = list(inputs()), list(inputs())
    other[lost] = 100 * torch.randn_like(other[lost])
    there = torch.ones(3, 2)
    there[:, lost] = 0
    with torch.no_grad():
        (logits, gate), (again, _) = net(*pair, there), net(*other, there)
    assert torch.equal(logits, again)
    for modality, share in enumerate(shares):
        torch.testing.assert_close(gate[:, modality], torch.full_like(gate[:, 0], share))
    assert (gate[:, lost] == 0).all()


def at_a_swath_edge(lost: int, size: int = 64):
    """Images of which one ends at a slanted edge, their availability, and where it is absent."""
    pair = list(inputs(2, size))
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    absent = columns + rows / 7 > size / 2
    pair[lost] = pair[lost] * ~absent
    share = torch.ones(2, 2)
    share[:, lost] = 1 - absent.float().mean()
    return pair, share, absent


@pytest.mark.parametrize("use", ["weighing", "reported"])
@pytest.mark.parametrize("lost", [0, 1], ids=["optical", "sar"])
def test_where_a_modality_ends_its_share_is_exactly_zero_and_the_other_s_one(use, lost):
    net = CloudSegNet(4, 2, 3, SMALL, use).eval()
    pair, share, absent = at_a_swath_edge(lost)
    with torch.no_grad():
        gate = net(*pair, share)[1]
    assert (gate[:, lost][:, absent] == 0).all() and (gate[:, 1 - lost][:, absent] == 1).all()
    assert (gate[:, lost][:, ~absent] > 0).all()
    torch.testing.assert_close(gate.sum(dim=1), torch.ones(2, 64, 64))


def test_a_pixel_is_there_if_one_channel_says_so():
    optical, sar = torch.zeros(1, 4, 64, 64), torch.zeros(1, 2, 64, 64)
    optical[0, 2, 5, 7], sar[0, 1, 9, 3] = -1e-3, 2.0
    found = presence(optical, sar, torch.tensor([[0.5, 0.5]]))
    assert found.sum(dim=(0, 2, 3)).tolist() == [1, 1]
    assert found[0, 0, 5, 7] == found[0, 1, 9, 3] == 1
    assert not presence(optical, sar, torch.zeros(1, 2)).any()
    assert presence(optical, sar, torch.ones(1, 2)).all()
    nearly = torch.full((1, 2), 1 - 1 / 4096**2)
    assert torch.equal(presence(optical, sar, nearly), found)


@pytest.mark.parametrize("lost", [0, 1], ids=["optical", "sar"])
def test_pixels_without_data_answer_as_an_absent_modality_does(lost):
    net = CloudSegNet(4, 2, 3, SMALL)
    net(*inputs(), torch.ones(3, 2))  # batch norms that make something of 0
    net.eval()
    pair, other = list(inputs()), list(inputs())
    pair[lost] = torch.zeros_like(pair[lost])
    partly, absent = torch.ones(3, 2), torch.ones(3, 2)
    partly[:, lost], absent[:, lost] = 0.5, 0
    with torch.no_grad():
        for one, of_absent in zip(net(*pair, partly), net(*other, absent), strict=True):
            assert torch.equal(one, of_absent)


@pytest.mark.parametrize("lost", [0, 1], ids=["optical", "sar"])
def test_nothing_leaks_from_an_absent_region(lost):
    """What a stream makes of 0, such as its offsets, is not met by the other streams."""
    net = CloudSegNet(4, 2, 3, SMALL)
    net(*inputs(), torch.ones(3, 2))
    net.eval()
    pair, share, absent = at_a_swath_edge(lost, 128)
    met: list[tuple[torch.Tensor, ...]] = []
    for block in net.streams.blocks:
        block.register_forward_pre_hook(lambda _, given: met.append(given[0]))
    with torch.no_grad():
        net(*pair, share)
    for number, streams in enumerate(met):
        stride = 4 * 2**number
        whole = functional.avg_pool2d(absent[None, None].float(), stride)[0, 0] == 1
        assert whole.any()
        assert (streams[lost][:, :, whole] == 0).all()
        assert streams[1 - lost][:, :, whole].any()


@pytest.mark.parametrize("lost", [0, 1], ids=["optical", "sar"])
def test_under_the_absence_of_one_modality_the_other_is_what_changes_the_answer(lost):
    net = CloudSegNet(4, 2, 3, SMALL).eval()
    pair, share, absent = at_a_swath_edge(lost)
    changed = list(pair)
    changed[1 - lost] = pair[1 - lost] + 2.0 * absent
    with torch.no_grad():
        (logits, gate), (again, same) = (net(*images, share) for images in (pair, changed))
    changes = (logits - again).abs().amax(dim=1)[:, absent]
    assert (changes > 0).float().mean() > 0.9
    assert torch.equal(gate[:, :, absent], same[:, :, absent])


def test_without_both_modalities_the_gate_is_zero_and_nothing_is_nan():
    logits, gate = CloudSegNet(4, 2, 3, SMALL).eval()(*inputs(), torch.zeros(3, 2))
    assert (gate == 0).all() and torch.isfinite(logits).all()


def test_the_deployed_network_answers_alike_and_has_no_removal():
    net = CloudSegNet(4, 2, 3, SMALL, removes_clouds=True)
    net.seen(*inputs(), torch.ones(3, 2))  # moves the batch statistics
    deployed = net.eval().deployed()
    assert not any("removal" in name for name in deployed.state_dict())
    assert not any("blocks.3.corrections" in name for name in deployed.state_dict())
    with torch.no_grad():
        for one, other in zip(
            net(*inputs(), torch.ones(3, 2)), deployed(*inputs(), torch.ones(3, 2)), strict=True
        ):
            assert torch.equal(one, other)


def test_the_gate_that_is_reported_teaches_the_streams_nothing():
    net = CloudSegNet(4, 2, 3, SMALL, "reported")
    net(*inputs(), torch.ones(3, 2))[1][:, 0].sum().backward()
    assert all(p.grad is None for p in net.streams.parameters())
    assert any(p.grad is not None and p.grad.any() for p in net.gate.parameters())


def slow_fusion(block: FuseBlock, optical, sar, cross):
    """The steps of the specification one by one, on the weights of a block."""

    def scales(mix, x):
        parts = [x]
        for k in (2, 4):
            parts.append(functional.interpolate(functional.max_pool2d(x, k), size=x.shape[2:]))
        return functional.relu(mix(torch.cat(parts, 1)))

    streams = [optical, sar] + ([] if cross is None else [cross])
    seen = [scales(m.mix, x) for m, x in zip(block.scales, streams, strict=True)]
    o, s = seen[0], seen[1]
    used = o
    if block.gate is not None:
        d = o - s
        pooled = torch.cat([d.max(dim=1, keepdim=True)[0], d.mean(dim=1, keepdim=True)], 1)
        used = torch.sigmoid(block.gate.norm(block.gate.conv(pooled))) * o
    joint = torch.cat([used, s, *seen[2:]], 1)
    squeezed = joint.mean(dim=(2, 3))
    hidden = functional.relu(squeezed @ block.channels.down.weight[:, :, 0, 0].T)
    weights = torch.sigmoid(hidden @ block.channels.up.weight[:, :, 0, 0].T)
    width = o.shape[1]
    scaled = joint * weights[:, :, None, None]
    x = sum(scaled[:, k * width : (k + 1) * width] for k in range(len(seen)))
    outs = [
        stream + (x - own) * torch.sigmoid(correct.weigh(x - own))
        for correct, stream, own in zip(block.corrections, streams, (o, s), strict=False)
    ]
    return x, outs


@pytest.mark.parametrize("gates_optical", [True, False], ids=["student", "teacher"])
@pytest.mark.parametrize("has_cross", [True, False])
def test_a_fuse_block_does_what_the_specification_says(gates_optical, has_cross):
    torch.manual_seed(1)
    block = FuseBlock(32, has_cross=has_cross, gates_optical=gates_optical).eval()
    streams = [torch.randn(2, 32, 8, 8) for _ in range(3 if has_cross else 2)]
    ones = torch.ones(2, 1, 1, 1)
    with torch.no_grad():
        fused, corrected = block(tuple(streams), (ones, ones))
        expected, outs = slow_fusion(block, *streams, *[None] * (not has_cross))
    torch.testing.assert_close(fused, expected, atol=ATOL, rtol=0)
    for one, other in zip(corrected, outs, strict=True):
        torch.testing.assert_close(one, other, atol=ATOL, rtol=0)


def test_the_teacher_has_neither_spatial_gate_nor_removal():
    names = CloudSegTeacher(4, 2, 3, SMALL).state_dict()
    assert not any(".gate." in name or "removal" in name for name in names)


@pytest.mark.parametrize(
    "name", ["nowhere:factory", "torch:no_such", "torch", ":x", "torch.nn:Identity"]
)
def test_a_factory_that_is_none_is_refused_by_name(name):
    with pytest.raises(InputError, match=f"{name}.*expected package|{name} makes no encoder"):
        CloudSegNet(4, 2, 3, replace(SMALL, encoder=name))
