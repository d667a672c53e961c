"""What a modality is worth where nobody learned weighs losses and gate."""

from __future__ import annotations

import pytest
import torch
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.judging.judge import batches
from esccs_edge.training.learning.networks import UnimodalNet
from esccs_edge.training.methods.shared import Shared
from esccs_edge.training.methods.skill import LEAST, Skill, SkilledStage, skills
from esccs_edge.training.options_file import options_from
from esccs_edge.training.samples.degraded import Degradation
from esccs_edge.training.scene_options import EncoderOptions
from esccs_edge.training.stages.scene_classification.run import SceneRun
from esccs_edge.training.stages.scene_classification.teacher_answers import TeacherAnswer

FAR = 20.0  # a logit so much higher is a probability of 1


class Source(torch.nn.Module):
    """Answers the class that the batch holds, and is believed as the batch says."""

    def forward(self, batch):
        logits = FAR * torch.nn.functional.one_hot(batch["class"], 3).float()
        return TeacherAnswer(logits, batch["belief"])


class Others(torch.nn.Module):
    """Optical answers the class that the batch holds, SAR the first."""

    def forward(self, batch):
        first = torch.zeros_like(batch["class"])
        return tuple(
            FAR * torch.nn.functional.one_hot(k, 3).float() for k in (batch["class"], first)
        )


def views(classes, belief=None, availability=None):
    count = len(classes)
    return {
        "class": torch.tensor(classes),
        "belief": torch.ones(count) if belief is None else torch.tensor(belief),
        "availability": torch.ones(count, 2) if availability is None else availability,
    }


def test_the_most_frequent_class_alone_is_no_skill():
    optical, sar = skills(Source(), Others(), [views([0, 0, 0, 0, 1]), views([0, 2])]).tolist()
    assert optical == pytest.approx(1)
    assert sar == pytest.approx(LEAST)  # a third of the classes by answering always the same


def test_answers_that_are_not_believed_and_absent_images_do_not_count():
    here = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    found = skills(Source(), Others(), [views([0, 1, 2], [1.0, 0.0, 1.0], here)])
    assert found.tolist() == pytest.approx([1, 1])  # SAR: of the first pair alone


def test_without_any_believed_answer_both_are_alike():
    found = skills(Source(), Others(), [views([0, 1], [0.0, 0.0])])
    assert found.tolist() == pytest.approx([LEAST, LEAST])


def test_skills_divide_a_weight_and_keep_its_sum():
    found = Skill(torch.tensor([0.6, 0.2]))(torch.tensor([[1.0, 1.0], [0.5, 1.5], [2.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[1.5, 0.5], [1.0, 1.0], [2.0, 0.0]]))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skill")
    data = tiny_index(folder / "data")
    options = options_from(tiny_document(data, folder / "run"))
    return Shared.train(SceneRun.open(options, open_dataset(str(data)), folder / "run"))


def test_a_modality_without_skill_teaches_nothing_and_the_gate_leaves_it(shared):
    run, size = shared.run, EncoderOptions(width=4, blocks=(1,), stem_stride=2)
    options = run.options
    (batch, *_) = batches(run.samples(Degradation(cover=0.5)))
    found = []
    for skill in ((1.0, 0.0), (1.0, 1.0)):
        torch.manual_seed(0)
        nets = UnimodalNet(13, 3, size).eval(), UnimodalNet(2, 3, size).eval()
        stage = SkilledStage(
            run.channels, run.label_weights(), options, shared.supervision, *nets, "student"
        )
        stage.keep_frozen(skill=Skill(torch.tensor(skill)))
        share = torch.full((len(batch["label"]), 2), 0.5)
        weights = stage._weights(share, batch["availability"])
        even = torch.full_like(share, 0.5)
        found.append((weights, float(stage._gate_loss(even, share, batch))))
        assert torch.isfinite(stage.loss(batch)[0])
    (alone, apart), (both, near) = found
    assert (alone[:, 1] == 0).all() and (both[:, 1] > 0).all()
    assert apart > near
