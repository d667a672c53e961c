"""The 3-D FCN as it is published: size, padding, exact rewrites, losses, its file, one step."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
h5py = pytest.importorskip("h5py", reason="its files are HDF5")

from support.tiny_series import write_fcn3d  # noqa: E402
from torch.nn import functional  # noqa: E402

from esccs_edge.errors import InputError  # noqa: E402
from esccs_edge.training.datasets.fcn3d import contiguous_folds, open_fcn3d  # noqa: E402
from esccs_edge.training.judging.series_maps import map_measures  # noqa: E402
from esccs_edge.training.learning.overlap_losses import (  # noqa: E402
    dice_loss,
    iou_loss,
    pixel_loss,
)
from esccs_edge.training.learning.series.fcn3d import (  # noqa: E402
    Fcn3d,
    SpaceTimeConvolution,
    doubled,
    over_all_dates,
)
from esccs_edge.training.learning.series.utae import Utae  # noqa: E402
from esccs_edge.training.options_file import read_options  # noqa: E402
from esccs_edge.training.series_options import SeriesSegmentationOptions  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


def test_the_network_has_the_parameters_of_the_paper():
    net = Fcn3d(6, 23, 3)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 4_873_347
    kernels = {tuple(part.conv.kernel_size) for part in (*net.down, *net.up)}
    assert kernels == {(5, 3, 3)} and tuple(net.head.kernel_size) == (23, 1, 1)


def test_utae_has_the_parameters_that_its_description_gives():
    """By hand from its layers: 1.1 million, as its authors state for PASTIS."""
    net = Utae(10, 8, 20)
    convolutions, attention = 43008 + 2 * 139840 + 287680, 83200
    assert sum(p.numel() for p in net.attention.parameters()) == attention
    assert sum(p.numel() for p in net.parameters()) == 1_087_260
    assert convolutions + attention + 246528 + 74208 + 57824 + 15132 == 1_087_260


def test_utae_gives_a_missing_date_no_weight():
    torch.manual_seed(0)
    net = Utae(2, 4, 3, [0, 31, 59, 90]).eval()
    weights = net.attention(torch.randn(1, 4, 128, 2, 2), torch.tensor([[1.0, 0.0, 1.0, 1.0]]))[1]
    assert weights.shape == (1, 4, 16, 2, 2) and float(weights[:, 1].max().detach()) < 1e-6
    assert torch.allclose(weights.sum(dim=1), torch.ones(1, 16, 2, 2))
    pixels = torch.randn(1, 2, 4 * 16, 16)
    pixels[:, :, 16:32] = 0
    with torch.no_grad():
        logits, seen = net(pixels, torch.tensor([[0.75]]))
    assert logits.shape == (1, 3, 16, 16) and seen[0, 0].tolist() == [1.0, 0.0, 1.0, 1.0]


def test_stride_two_pads_no_zero_before_and_one_behind():
    """By hand: the first output reads rows 0 to 2, the last one rows 6, 7 and the padding."""
    layer = SpaceTimeConvolution(1, 1, 2).eval()
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.weight[0, 0, 2] = 1.0  # the middle date alone
        layer.conv.bias.zero_()
    image = torch.rand(1, 1, 3, 8, 8)
    with torch.no_grad():
        found = layer(image)[0, 0, 1] * math.sqrt(1 + 1e-3)
    assert found.shape == (4, 4)
    assert float(found[0, 0]) == pytest.approx(float(image[0, 0, 1, 0:3, 0:3].sum()), rel=1e-5)
    assert float(found[3, 3]) == pytest.approx(float(image[0, 0, 1, 6:, 6:].sum()), rel=1e-5)


def test_both_rewrites_are_exact():
    x = torch.randn(2, 4, 5, 3, 3)
    wanted = functional.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")
    assert torch.equal(doubled(x), wanted)
    head = torch.nn.Conv3d(4, 3, (5, 1, 1))
    found = over_all_dates(x, head.weight, head.bias)
    assert torch.allclose(found, head(x)[:, :, 0], atol=1e-6)


def test_a_missing_date_is_seen_as_such_and_an_absent_sensor_says_nothing():
    net = Fcn3d(2, 3, 2, (4, 4, 4, 4), (4, 4, 4, 4)).eval()
    pixels = torch.randn(1, 2, 3 * 16, 16)
    pixels[:, :, 16:32] = 0
    pixels[:, :, 32:40] = 0
    logits, seen = net(pixels, torch.tensor([[0.5]]))
    assert seen[0, 0].tolist() == [1.0, 0.0, 0.5] and logits.shape == (1, 2, 16, 16)
    absent = [net(one, torch.zeros(1, 1)) for one in (pixels, pixels * 0)]
    assert torch.equal(absent[0][0], absent[1][0]) and not absent[0][1].any()


def test_overlap_losses_by_hand():
    target = torch.tensor([[[0, 1], [1, -1]]])
    shares = torch.tensor([[[0.8, 0.3], [0.5, 0.9]], [[0.2, 0.7], [0.5, 0.1]]])[None]
    logits = torch.log(shares)
    first = 0.8 / (0.8 + 0.3 + 0.5 + 1 - 0.8)
    second = (0.7 + 0.5) / (0.2 + 0.7 + 0.5 + 2 - 0.7 - 0.5)
    assert float(iou_loss(logits, target)) == pytest.approx(2 - first - second, abs=1e-5)
    first, second = 2 * 0.8 / (1.6 + 1), 2 * 1.2 / (1.4 + 2)
    assert float(dice_loss(logits, target)) == pytest.approx(2 - first - second, abs=1e-5)
    wanted = -(math.log(0.8) + math.log(0.7) + math.log(0.5)) / 3
    assert float(pixel_loss(logits, target)) == pytest.approx(wanted, abs=1e-5)
    nothing = torch.full_like(target, -1)
    assert float(pixel_loss(logits, nothing)) == 0 and torch.isfinite(iou_loss(logits, nothing))


def test_iou_loss_stays_in_float32_under_autocast():
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    target = torch.zeros(2, 8, 8, dtype=torch.int64)  # two classes are absent
    with torch.autocast("cpu", torch.bfloat16):
        loss = iou_loss(logits.bfloat16(), target)
    assert loss.dtype == torch.float32 and 2 < float(loss.detach()) < 3
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_folds_are_contiguous_and_those_of_the_paper():
    folds = contiguous_folds(588)
    assert np.flatnonzero(np.diff(folds)).tolist() == [117, 235, 353, 470]
    assert np.bincount(contiguous_folds(10)).tolist() == [2] * 5


def test_its_file_is_read_and_others_are_refused(tmp_path):
    dataset = open_fcn3d(write_fcn3d(tmp_path / "tiny.hdf5"), held_out=4)
    assert dataset.size == (5, 16, 16) and dataset.splits[-1] == "test"
    assert dataset.splits[0] == "val" and set(dataset.groups) == {f"fold {i}" for i in range(5)}
    with h5py.File(tmp_path / "tiny.hdf5") as stored:
        wanted = stored["data"][3, 2, 7, 4]
    assert (dataset.series(3)["optical"][:, 4, 2, 7] == wanted).all()
    with pytest.raises(InputError, match="cannot read"):
        open_fcn3d(tmp_path / "none.hdf5")
    with h5py.File(tmp_path / "flat.hdf5", "w") as stored:
        stored["data"], stored["truth"] = np.zeros((6, 4, 4)), np.zeros((6, 4, 4))
    with pytest.raises(InputError, match="expected"):
        open_fcn3d(tmp_path / "flat.hdf5")


def test_map_measures_by_hand():
    matrix = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0]])
    found = map_measures(matrix, ("a", "b", "c"))
    assert found["iou"] == {"a": pytest.approx(6 / 9), "b": pytest.approx(3 / 6), "c": None}
    assert found["f1"]["a"] == pytest.approx(12 / 15) and found["oa"] == pytest.approx(9 / 12)
    chance = (8 * 7 + 4 * 5) / 144
    assert found["kappa"] == pytest.approx((0.75 - chance) / (1 - chance))


def test_the_exact_network_takes_one_step_of_the_published_recipe(tmp_path):
    """55 GMAC a series at 128 x 128: here two of 32 x 32, with all 23 dates and six bands."""
    from esccs_edge.training.stages.series.segmentation_run import SegmentationStage

    options = read_options(CONFIGS / "fcn3d.toml")
    assert isinstance(options, SeriesSegmentationOptions)
    assert (options.loss, options.optimizer, options.schedule.batch_size) == ("iou", "sgd", 2)
    torch.manual_seed(0)
    stage = SegmentationStage(Fcn3d(6, 23, 3), "optical", options)
    optimizer = stage.configure_optimizers()
    assert optimizer.defaults["lr"] == 0.005 and optimizer.defaults["momentum"] == 0.9
    batch = {
        "optical": torch.randn(2, 6, 23 * 32, 32),
        "keep": torch.ones(2, 1, 23, dtype=torch.bool),
        "label": torch.randint(0, 3, (2, 32, 32)),
    }
    before, _ = stage.loss(batch)
    before.backward()
    optimizer.step()
    after, _ = stage.loss(batch)
    assert float(after.detach()) < float(before.detach())
