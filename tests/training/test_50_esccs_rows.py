"""Rows of ESCCS: as its figures draw it, with a part changed, with other regulation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.judging.judge import batches
from esccs_edge.training.learning.networks import StudentNet, UnimodalNet
from esccs_edge.training.learning.pseudo_labels import PseudoLabelFilter
from esccs_edge.training.methods import METHODS
from esccs_edge.training.methods.crosswise import Crosswise
from esccs_edge.training.methods.esccs_paper import PaperAuxiliaryStage, PaperStudentStage
from esccs_edge.training.methods.esccs_variants import CrosswiseStage
from esccs_edge.training.methods.fusion import fusion_net
from esccs_edge.training.methods.method import MethodStage
from esccs_edge.training.methods.prepared import PREPARED
from esccs_edge.training.methods.regulation import branch_logits
from esccs_edge.training.methods.shared import Auxiliaries, Shared
from esccs_edge.training.methods.told import told
from esccs_edge.training.options_file import options_from
from esccs_edge.training.samples.degraded import Degradation
from esccs_edge.training.scene_options import EncoderOptions
from esccs_edge.training.stages.scene_classification.auxiliary import (
    ApartOpticalStage,
    OpticalAuxiliaryStage,
)
from esccs_edge.training.stages.scene_classification.run import SceneRun

SIZE = EncoderOptions(width=4, blocks=(1, 1))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    document = tiny_document("", "", epochs=2, target_share=0.5)
    dataset = open_dataset(str(tiny_index(folder / "a", 48)))
    run = SceneRun.open(options_from(document), dataset, folder / "run")
    teacher = UnimodalNet(13, 3, SIZE).eval()
    return replace_teacher(run, teacher)


def replace_teacher(run, teacher):
    """What methods share, with an untaught teacher: quick, and its answers are as good to check."""
    run.__dict__["train_teacher"] = lambda: teacher
    return Shared.train(run)


@pytest.fixture(scope="module")
def batch(shared):
    return next(batches(shared.run.samples(Degradation(cover=0.3, sar="from pixels"), "test")))


@pytest.mark.parametrize(("modality", "channels"), [("optical", 13), ("sar", 2)])
def test_the_first_sub_task_teaches_each_auxiliary_alone_by_filtered_answers(
    shared, batch, modality, channels
):
    source = shared.teacher(batch["optical"]).detach()
    confidence = source.softmax(1).max(1).values
    kept = confidence >= confidence.median()
    chosen = PseudoLabelFilter(torch.full((3,), float(confidence.median())), 0.0)
    net = UnimodalNet(channels, 3, SIZE).eval()
    stage = PaperAuxiliaryStage("f1", net, shared, filtered=chosen)
    stage.modality = modality
    logits = net(batch[modality]).detach()
    temperature = shared.run.options.distillation.temperature
    target = (source / temperature).softmax(1)
    soft = target * (target.log() - (logits / temperature).log_softmax(1))
    hard = torch.nn.functional.cross_entropy(logits, source.argmax(1), reduction="none")
    expected = (hard + temperature**2 * soft.sum(1))[kept].mean()
    assert 0 < int(kept.sum()) < len(kept)
    assert float(stage.method_loss(batch).detach()) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("on_outputs", [False, True])
def test_the_second_sub_task_is_three_losses_by_hand_without_filter(shared, batch, on_outputs):
    torch.manual_seed(1)
    optical, sar = UnimodalNet(13, 3, SIZE).eval(), UnimodalNet(2, 3, SIZE).eval()
    net = fusion_net(shared, "by-hand").eval()
    stage = PaperStudentStage("f2", net, shared, optical=optical, sar=sar)
    stage.on_outputs = on_outputs
    found = float(stage.method_loss(batch).detach())
    options = shared.run.options
    temperature, beta = options.distillation.temperature, options.student.irm.beta
    with torch.no_grad():
        source, own, logits = shared.teacher(batch["optical"]), {}, net(batch).logits
        own["optical"], own["sar"] = optical(batch["optical"]), sar(batch["sar"])
        rows, answer = torch.arange(len(logits)), source.argmax(dim=1)
        rho = (
            own["optical"].softmax(1)[rows, answer] / own["sar"].softmax(1)[rows, answer]
        ) ** beta
        weights = {"optical": 2 / (1 + rho), "sar": 2 * rho / (1 + rho)}

        def kd(teacher):
            target = (teacher / temperature).softmax(1)
            gap = target.log() - (logits / temperature).log_softmax(1)
            return temperature**2 * (target * gap).sum(1)

        total = kd(source)
        for name, weight in weights.items():
            scaled = weight[:, None] * own[name]
            total = total + (kd(scaled) if on_outputs else weight * kd(own[name]))
    assert found == pytest.approx(float(total.mean()), rel=1e-3)


@pytest.mark.parametrize(
    ("blend", "form"), [(True, OpticalAuxiliaryStage), (False, ApartOpticalStage)]
)
def test_the_optical_auxiliary_learns_from_sar_only_where_the_options_say_so(
    blend, form, shared, batch, monkeypatch
):
    stages = []
    monkeypatch.setattr(SceneRun, "fit", lambda _, stage, __: stages.append(stage))
    options = shared.run.options
    options = options.evolve(auxiliary=replace(options.auxiliary, blend=blend))
    sar = UnimodalNet(2, 3, SIZE).eval()
    shared.run.with_options(options).train_optical_auxiliary(shared.supervision, sar)
    (stage,) = stages
    assert type(stage) is form
    assert ("sar_auxiliary" in stage._frozen) == blend


def test_crosswise_auxiliaries_teach_the_student_what_they_answer(shared, batch):
    optical, sar = UnimodalNet(13, 3, SIZE).eval(), UnimodalNet(2, 3, SIZE).eval()
    run = shared.run
    stage = CrosswiseStage(
        run.channels, run.label_weights(), run.options, shared.supervision, optical, sar, "student"
    )
    known = torch.randn(len(batch["label"]), 3), torch.randn(len(batch["label"]), 3)
    stage.keep_frozen(crosswise=Always(known))
    found = stage.asked(batch)
    assert all(torch.equal(a, b) for a, b in zip(found, known, strict=True))
    losses = []
    for answers in (known, (known[1], known[0])):
        stage.keep_frozen(crosswise=Always(answers))
        torch.manual_seed(0)
        losses.append(float(stage.loss(batch)[0].detach()))
    assert losses[0] != losses[1]


class Always(torch.nn.Module):
    """Answers the same, whatever the batch."""

    def __init__(self, answers) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, batch):
        return self.answers


def test_branch_logits_sum_to_those_of_an_open_gate(shared):
    run = shared.run
    torch.manual_seed(0)
    net = StudentNet(13, 2, 3, run.options.student.optical, run.options.student.sar).eval()
    features = (
        torch.randn(4, net.optical.features),
        torch.randn(4, net.sar.features),
    )
    optical, sar = branch_logits(net, features)
    torch.testing.assert_close(optical + sar - net.head.bias, net.head(torch.cat(features, dim=1)))


def test_crosswise_answers_come_from_the_auxiliaries_that_did_not_learn_the_place():
    def constant(value):
        net = torch.nn.Module()
        net.forward = lambda image: torch.full((len(image), 2), value)
        return net

    halves = (
        Auxiliaries(constant(1.0), constant(10.0)),
        Auxiliaries(constant(2.0), constant(20.0)),
    )
    judge = Crosswise(halves, torch.tensor([0, 1, 1]))
    images = {"optical": torch.zeros(2, 1), "sar": torch.zeros(2, 1)}
    optical, sar = judge({**images, "index": torch.tensor([0, 2])})
    assert optical[:, 0].tolist() == [2.0, 1.0]
    assert sar[:, 0].tolist() == [20.0, 10.0]


def test_both_halves_of_the_target_are_learned_by_place(shared, monkeypatch):
    learned = []

    def record(_, stage, samples):
        learned.append({int(samples[i]["index"]) for i in range(len(samples))})
        return stage.average.eval()

    monkeypatch.setattr(SceneRun, "fit", record)
    found = PREPARED["crosswise"](shared).crosswise
    first, second = learned[0], learned[2]
    groups = shared.run.target.groups
    assert not {groups[i] for i in first} & {groups[i] for i in second}
    assert all(int(found.learned_by[i]) == 0 for i in first)
    assert all(int(found.learned_by[i]) == 1 for i in second)


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].gifts.stages == 3])
def test_every_row_trains_for_the_epochs_that_the_table_states(name, shared, monkeypatch):
    epochs = []

    def record(run, stage, _):
        on_half = run.folder.name.startswith("half")
        epochs.append(0 if on_half else stage.schedule.epochs)
        if isinstance(stage, MethodStage):
            assert stage.schedule.batch_size == shared.run.options.student.schedule.batch_size
        return stage.average.eval()

    monkeypatch.setattr(SceneRun, "fit", record)
    prepared = replace(shared, auxiliaries=None, paper_auxiliaries=None)
    for need in METHODS[name].needs:
        prepared = PREPARED[need](prepared)
    uses_them = name.startswith("esccs")  # G2D's teachers are not its own
    if not uses_them or name == "esccs-no-step-one":
        epochs.clear()
    if name in ("esccs-apart", "esccs-blend"):
        epochs.pop()  # it trains an optical auxiliary of its own
    METHODS[name].predictor(prepared)
    stated = told(METHODS[name].gifts, shared.run.options).epochs
    assert abs(sum(epochs) - stated) <= 2  # shares of a schedule are rounded
