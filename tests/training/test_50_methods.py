"""Every compared method learns and answers; the formulas they are known for, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.judging.judge import batches, held_out, judge
from esccs_edge.training.judging.predictors import gates
from esccs_edge.training.learning.pseudo_labels import PseudoLabelFilter
from esccs_edge.training.methods import FAMILIES, METHODS, kdhn
from esccs_edge.training.methods.cloud_aware import with_cloud_estimate
from esccs_edge.training.methods.cycit import adversarial_loss, triplet_loss
from esccs_edge.training.methods.fusion import FusionNet, scaled_gradient
from esccs_edge.training.methods.g2d import switches
from esccs_edge.training.methods.gdl import GdlNet, normal_divergence
from esccs_edge.training.methods.kdhn import merged_logits
from esccs_edge.training.methods.method import one_lost
from esccs_edge.training.methods.mmpareto import combined, min_norm_share
from esccs_edge.training.methods.modality_valuation import copies, valuation
from esccs_edge.training.methods.ogm_ge import coefficients, modulate
from esccs_edge.training.methods.prepared import PREPARED
from esccs_edge.training.methods.qmf import energy_weight, in_unit_range, ranking_loss
from esccs_edge.training.methods.shared import Shared
from esccs_edge.training.methods.spl import structural_similarity
from esccs_edge.training.methods.ttl import seen
from esccs_edge.training.options_file import options_from
from esccs_edge.training.samples.degraded import Degradation
from esccs_edge.training.stages.scene_classification.run import SceneRun


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    dataset = open_dataset(str(tiny_index(folder / "a", 48)))
    document = tiny_document("", "", epochs=1, target_share=0.5)
    document["student"]["irm"] = {"warmup_epochs": 0}
    run = SceneRun.open(options_from(document), dataset, folder / "run")
    found = Shared.train(run)
    for prepare in PREPARED.values():
        found = prepare(found)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_method_learns_one_epoch_and_answers_with_probabilities(shared, name):
    found = judge(METHODS[name].predictor(shared), held_out(shared.run, "test")[:2])
    assert found.probabilities.shape == (2 * 12, 3)
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (found.probabilities >= 0).all()
    assert METHODS[name].adds
    if METHODS[name].student is not None:
        student = METHODS[name].student(shared)
        gate = judge(gates(student), held_out(shared.run, "test")[:1]).probabilities
        assert gate.shape == (12, 2)
        assert np.allclose(gate.sum(axis=1), 1, atol=1e-5)


def learned_stages(name, shared, monkeypatch):
    """The stages that a method would train; none is."""
    stages = []

    def record(_, stage, __):
        stages.append(stage)
        return stage.average.eval()

    monkeypatch.setattr(SceneRun, "fit", record)
    METHODS[name].predictor(shared)
    return stages


#: All that learn from the source model's answers alone.
ASKED_ALONE = ("kd-s", "kd-sar", "kdhn", "tlf-early", "tlf-middle", "tlf-late", "ogm-ge",
               "mmpareto", "modality-valuation", "qmf")  # fmt: skip


@pytest.mark.parametrize("name", [f"{name}-cloud-aware" for name in ASKED_ALONE])
def test_with_the_cloud_estimate_nothing_is_learned_from_a_clouded_image(name, shared, monkeypatch):
    monkeypatch.setattr(kdhn, "FIRST_ROUND", 0)  # the network labels along at once
    batch = next(batches(shared.run.samples(Degradation(cover=0.5), "test")))
    losses = {}
    for row in (name, name.removesuffix("-cloud-aware")):
        stage = learned_stages(row, shared, monkeypatch)[-1]
        every_answer = torch.zeros(len(shared.run.dataset.classes))
        least = shared.run.options.auxiliary.filter.reliability
        stage.filter = PseudoLabelFilter(every_answer, least)
        for estimate in (0.0, 1.0):
            seen = {**batch, "reliability": torch.full_like(batch["reliability"], estimate)}
            losses[row, estimate] = float(stage.method_loss(seen).detach())
    assert losses[name, 0.0] == 0
    assert losses[name, 1.0] > 0
    assert losses[name.removesuffix("-cloud-aware"), 0.0] > 0


def believing(name, shared, monkeypatch):
    """The last stage of a method, which takes every answer for a label, and a batch with SAR."""
    stage = learned_stages(name, shared, monkeypatch)[-1]
    stage.filter = PseudoLabelFilter(torch.zeros(len(shared.run.dataset.classes)), 0.0)
    clear = Degradation(cover=0.0, sar="from pixels")
    return stage, next(batches(shared.run.samples(clear, "test")))


def without_sar(batch):
    available = batch["availability"] * torch.tensor([1.0, 0.0])
    return {**batch, "sar": torch.zeros_like(batch["sar"]), "availability": available}


@pytest.mark.parametrize("name", ["tlf-late", "mmpareto"])
def test_where_sar_is_absent_its_own_head_learns_nothing(name, shared, monkeypatch):
    stage, batch = believing(name, shared, monkeypatch)
    stage.method_loss(without_sar(batch)).backward()
    assert not stage.net.sar_head.bias.grad.any()
    assert stage.net.optical_head.bias.grad.any()
    stage.method_loss(batch).backward()
    assert stage.net.sar_head.bias.grad.any()


@pytest.mark.parametrize("name", ["kd-sar", "ttl"])
def test_a_sar_network_learns_nothing_where_sar_is_absent(name, shared, monkeypatch):
    stage, batch = believing(name, shared, monkeypatch)
    assert float(stage.method_loss(without_sar(batch)).detach()) == 0
    assert float(stage.method_loss(batch).detach()) > 0


def test_an_optical_network_learns_where_sar_is_absent(shared, monkeypatch):
    stage, batch = believing("kd-s", shared, monkeypatch)
    assert float(stage.method_loss(without_sar(batch)).detach()) > 0


def test_the_cloud_estimate_brings_the_filter_of_esccs_and_shares_the_teacher(shared, monkeypatch):
    aware = with_cloud_estimate(shared)
    assert aware.teacher is shared.teacher
    assert aware.run.folder != shared.run.folder
    (stage,) = learned_stages("tlf-middle-cloud-aware", shared, monkeypatch)
    assert stage.filter is shared.supervision.pseudo_labels
    (blind,) = learned_stages("tlf-middle", shared, monkeypatch)
    assert blind.filter is shared.confident


def test_every_method_belongs_to_at_most_one_family():
    members = [name for names in FAMILIES.values() for name in names]
    assert len(set(members)) == len(members)
    assert set(METHODS) - set(members) == {
        "source-only", "optical-auxiliary", "sar-auxiliary", "esccs", "supervised-fusion",
        "clear-teacher",
    }  # fmt: skip
    assert all(METHODS[name].deployable for name in members)


@pytest.mark.parametrize(
    ("name", "starts_at_teacher"), [("kd-s", False), ("kd-s-cloud-aware", True)]
)
def test_only_rows_that_are_given_it_start_at_the_source_model(
    name, starts_at_teacher, shared, monkeypatch
):
    options = shared.run.options.evolve(warm_start=True)
    warm = replace(shared, run=shared.run.with_options(options))
    (stage,) = learned_stages(name, warm, monkeypatch)
    teacher = shared.supervision.first_teacher.state_dict()
    same = [torch.equal(value, teacher[key]) for key, value in stage.net.state_dict().items()]
    assert all(same) == starts_at_teacher


def test_ttl_changes_one_thing_a_hop_and_labels_the_target_by_the_surest_half(shared, monkeypatch):
    stages = learned_stages("ttl", shared, monkeypatch)
    assert [stage.hop for stage in stages] == [1, 2, 3, 4]
    assert [stage.net.encoder.stem[0].in_channels for stage in stages] == [1, 1, 1, 2]
    answers = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]])
    stage = stages[2]
    monkeypatch.setitem(stage._frozen, "before", lambda image: torch.log(answers + 1e-6))
    count = len(answers)
    images, ones = torch.randn(count, 13, 16, 16), torch.ones(count)
    stage.choose([{"optical": images, "reliability": ones, "availability": torch.ones(count, 2)}])
    assert stage.filter.keep(answers, ones).tolist() == [True, False, True, False]


def test_a_translator_that_the_critic_sees_through_still_learns():
    critic = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.zeros_(critic.bias)
    torch.nn.init.constant_(critic.weight, 0.5)
    real, fake = torch.full((1, 1, 2, 2), 2.0), torch.zeros(1, 1, 2, 2, requires_grad=True)
    adversarial_loss(critic, real, fake).backward()
    # D(fake) = 0, so (D - 1)^2 has the slope 2 (0 - 1) 0.5, over four pixels.
    assert fake.grad.flatten().tolist() == pytest.approx([-0.25] * 4)
    # D(real) = 1 and D(fake) = 0 are what the critic wants: the translator's loss moves it nowhere.
    assert float(critic.weight.grad.abs().sum() + critic.bias.grad.abs().sum()) == 0


def test_one_modality_is_lost_only_where_both_are_there():
    batch = {
        "optical": torch.ones(400, 1, 1, 1),
        "sar": torch.ones(400, 1, 1, 1),
        "availability": torch.tensor([[1.0, 1.0], [0.0, 0.5]] * 200),
    }
    torch.manual_seed(0)
    found = one_lost(batch, 0.5)
    both, alone = found["availability"][::2], found["availability"][1::2]
    assert (both.sum(dim=1) >= 1).all()
    assert 70 < int((both.sum(dim=1) == 1).sum()) < 130
    assert torch.equal(alone, batch["availability"][1::2])
    assert torch.equal(found["sar"].flatten() > 0, found["availability"][:, 1] > 0)


def test_absent_images_reach_no_statistics_of_a_fusion_network(shared):
    batch = next(batches(shared.run.samples(Degradation(cover=0.5), "test")))
    half = {**batch, "availability": batch["availability"].clone()}
    half["availability"][::2, 1] = 0
    there = {name: value[1::2] for name, value in half.items()}
    found = []
    for part in (half, there):
        torch.manual_seed(0)
        net = FusionNet(shared).train()
        net.features(part)
        found.append(net.sar.stem[1].running_mean)
    torch.testing.assert_close(*found)


def test_gdl_answers_for_one_modality_by_the_shared_head(shared):
    torch.manual_seed(0)
    net = GdlNet(shared).eval()
    sizes = net.optical_head.in_features, net.sar_head.in_features
    parts = [(torch.randn(4, size), torch.zeros(4, size)) for size in sizes]
    found = net.answer(parts, torch.ones(4, 2, dtype=torch.bool))
    bias = net.head.bias
    torch.testing.assert_close(found.optical + found.sar - bias, found.logits)
    assert not torch.allclose(found.optical, net.optical_head(parts[0][0]))
    noise = [layer[1].bias for layer in net.log_variances]
    assert all(torch.equal(bias, torch.full_like(bias, -5.0)) for bias in noise)


def test_the_noise_of_ogm_ge_has_the_spread_of_the_gradient_before_it_is_slowed():
    torch.manual_seed(0)
    gradient = 3.0 * torch.randn(200, 20)
    slowed = gradient.clone()
    modulate(slowed, torch.tensor(0.0))
    assert float(slowed.std()) == pytest.approx(3.0, rel=0.1)


def test_past_losses_are_brought_to_the_unit_range():
    assert in_unit_range(torch.tensor([2.0, 4.0, 3.0])).tolist() == [0.0, 1.0, 0.5]
    assert in_unit_range(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_ogm_slows_the_leader_only():
    slow, free = coefficients(torch.tensor(6.0), torch.tensor(3.0), 0.1)
    assert float(slow) == pytest.approx(1 - math.tanh(0.2))
    assert float(free) == 1.0


def test_halves_of_the_joint_logits_sum_to_the_whole(shared):
    net = FusionNet(shared).eval()
    optical = torch.randn(5, net.optical_head.in_features)
    sar = torch.randn(5, net.sar_head.in_features)
    first, second = net.halves(optical, sar)
    assert torch.allclose(first + second, net.heads(optical, sar).logits, atol=1e-5)


def test_scaled_gradient_changes_only_the_gradient():
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    y = scaled_gradient(x, 0.25)
    assert torch.equal(y, x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.tensor([0.25, 0.25]))


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [((1.0, 0.0), (0.0, 1.0), 0.5), ((2.0, 0.0), (0.0, 1.0), 0.2), ((3.0, 0.0), (1.0, 0.0), 0.0)],
)
def test_min_norm_share_by_hand(a, b, share):
    assert float(min_norm_share(torch.tensor(a), torch.tensor(b))) == pytest.approx(share)


def test_pareto_direction_hurts_neither_loss_and_keeps_its_length():
    joint, own = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])
    found = combined(joint, own)
    assert float(found @ joint) > 0 and float(found @ own) > 0
    assert float(found.norm()) >= 1.5 * float((joint + own).norm()) - 1e-6
    agreeing = combined(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert torch.allclose(agreeing, 1.5 * torch.tensor([2.0, 1.0]))


def test_valuation_by_hand():
    right = torch.tensor
    phi = valuation(
        right([True, True, False, True]),
        right([True, True, True, False]),
        right([True, False, False, False]),
    )
    assert phi.tolist() == [[1.0, 1.0], [1.5, 0.5], [0.5, -0.5], [1.0, 1.0]]
    assert copies(torch.tensor([1.5, 1.0, 0.5, 0.0, -0.5])).tolist() == [0, 0, 1, 2, 3]


def test_energy_weight_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    expected = [0.1 * math.log(2), 0.1 * math.log(4)]
    assert energy_weight(logits).tolist() == pytest.approx(expected)


def test_ranking_asks_the_sample_with_the_higher_loss_for_the_lower_weight():
    losses = torch.tensor([0.0, 1.0])
    good = ranking_loss(torch.tensor([2.0, 0.5]), losses)
    bad = ranking_loss(torch.tensor([0.5, 2.0]), losses)
    assert float(good) == 0.0 and float(bad) == pytest.approx(2.5)


def test_gdl_regularizer_is_the_divergence_from_the_standard_normal():
    mean, log_variance = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, math.log(2.0)]])
    assert float(normal_divergence(mean, log_variance)) == pytest.approx(
        0.5 * (2 + 1 - math.log(2) - 1)
    )


def test_g2d_stops_the_modality_with_the_surer_teacher():
    assert switches(torch.tensor(3.0), torch.tensor(2.0)) == (0.0, 1.0)
    assert switches(torch.tensor(2.0), torch.tensor(3.0)) == (1.0, 0.0)


def test_kdhn_merges_answers_not_logits():
    merged = merged_logits(torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
    assert torch.softmax(merged, 1).tolist()[0] == pytest.approx([0.75, 0.25])


def test_structural_similarity_is_one_for_equal_images_and_less_for_others():
    a = torch.randn(2, 3, 12, 12)
    assert structural_similarity(a, a).tolist() == pytest.approx([1.0, 1.0])
    assert (structural_similarity(a, a.flip(3)) < 0.9).all()


def test_gray_image_loses_color_and_half_the_resolution():
    image = torch.randn(2, 5, 8, 8)
    gray = seen(image, speckled=False)
    assert gray.shape == (2, 1, 8, 8)
    assert torch.equal(gray[..., ::2, ::2], gray[..., 1::2, 1::2])
    assert not torch.equal(gray, seen(image, speckled=True))


def test_triplets_by_hand():
    anchors, others = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    found = triplet_loss(anchors, torch.tensor([0]), others, torch.tensor([0, 1]))
    assert float(found) == pytest.approx(math.sqrt(2) - 2 + 1)
