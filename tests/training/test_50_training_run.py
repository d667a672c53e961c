"""A complete tiny run: what it leaves, that it survives a kill, what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file
from support.tiny_data import CLASSES, tiny_document, tiny_index

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.cloud_bins import CLOUD_BINS, cloud_bin
from esccs_edge.errors import ArtifactError, InputError
from esccs_edge.rasters.pair_index import read_index
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.learning.networks import StudentNet, UnimodalNet
from esccs_edge.training.learning.pseudo_labels import PseudoLabelFilter
from esccs_edge.training.learning.tasks import learning_task
from esccs_edge.training.options_file import changed_options, options_from, read_options
from esccs_edge.training.run import train
from esccs_edge.training.scene_options import EncoderOptions, TrainOptions
from esccs_edge.training.stages.scene_classification.run import SceneRun
from esccs_edge.training.stages.scene_classification.student import StudentStage
from esccs_edge.training.stages.scene_classification.teacher import TeacherStage
from esccs_edge.training.stages.scene_classification.teacher_answers import (
    AllViews,
    EachView,
    Supervision,
)

STAGES = ("teacher", "sar-auxiliary", "optical-auxiliary", "student")


class KilledError(Exception):
    """Stands for the process being killed."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_index(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """An unbroken run of three epochs a stage."""
    folder = tmp_path_factory.mktemp("run") / "straight"
    return train(options_from(tiny_document(data, folder, epochs=3))), folder


def weights(bundle: Bundle):
    return load(bundle.read("student.safetensors"))


def killed_at(monkeypatch, stage_class, epoch: int) -> None:
    """Let the stage die inside an epoch, after it has drawn random numbers there."""
    original = stage_class.loss

    def loss(self, batch):
        result = original(self, batch)
        if self.current_epoch == epoch and self.global_step % 3 == 1:
            raise KilledError
        return result

    monkeypatch.setattr(stage_class, "loss", loss)


def test_a_run_leaves_a_verified_bundle_that_rebuilds_the_student(finished):
    bundle, folder = finished
    opened = Bundle.open(folder / "bundle")
    assert opened.verify() == ["mlm.json", "student.safetensors"]
    manifest = opened.manifest
    assert manifest.classes == CLASSES
    assert (manifest.sample.height, len(manifest.modalities["optical"].channels)) == (16, 13)
    assert 0.2 <= manifest.temperature <= 10
    network = learning_task(manifest.task).network(manifest)
    network.load_state_dict(weights(bundle))
    assert list(manifest.familiarity) == ["optical", "sar"]
    assert set(manifest.familiarity["sar"].quantiles) == {"clear", "clouded", "overcast"}


def test_provenance_says_what_was_simulated_and_how_good_each_network_is(finished):
    provenance = finished[0].manifest.provenance
    assert "clouds" in provenance["simulated"]
    assert "sar" not in provenance["simulated"]  # the tiny data brings its own
    assert provenance["seed"] == 0
    for split in ("val", "test"):
        networks = provenance["metrics"][split]
        for name in ("teacher on clear images", "optical auxiliary", "SAR auxiliary", "student",
                     "student, optical only", "student, SAR only"):  # fmt: skip
            assert networks[name]["overall"]["n"] > 0
        assert set(networks["student"]["by_cloud"]) == set(CLOUD_BINS)
    assert "/" not in json.dumps(provenance["options"])  # no path of this machine


def test_held_out_pairs_cover_all_bins_and_classes_and_never_the_training_places(finished, data):
    index = read_index(finished[1] / "heldout" / "index.csv")
    seen = {(row.split, row.label, cloud_bin(row.cover)) for row in index.rows}
    wanted = {("val", label, position) for label in CLASSES for position in range(5)}
    assert wanted <= seen
    training = {row.group for row in read_index(data).rows if row.split == "train"}
    assert not training & {row.group for row in index.rows}
    spec = finished[0].manifest
    optical, sar = index.load(0, spec.modalities).values()
    assert (optical.dtype, optical.shape) == (np.uint16, (13, 16, 16))
    assert (sar.dtype, sar.shape) == (np.float32, (2, 16, 16))


def test_logs_have_one_row_per_epoch(finished):
    for stage in STAGES:
        rows = (finished[1] / "logs" / f"{stage}.csv").read_text().splitlines()
        assert len(rows) == 4
    assert any((finished[1] / "logs" / "tensorboard").rglob("events*"))


@pytest.mark.parametrize(("stage_class", "epoch"), [(StudentStage, 1), (TeacherStage, 2)])
def test_a_killed_run_resumes_to_the_same_numbers(
    finished, data, tmp_path, monkeypatch, stage_class, epoch
):
    options: Any = options_from(tiny_document(data, tmp_path / "run", epochs=3))
    with monkeypatch.context() as patched:
        killed_at(patched, stage_class, epoch)
        with pytest.raises(KilledError):
            train(options)
    assert not (tmp_path / "run" / "bundle").exists()
    resumed = train(options, resume=True)
    expected = weights(finished[0])
    for name, value in weights(resumed).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)
    assert resumed.manifest.temperature == finished[0].manifest.temperature
    for stage in STAGES:
        log = f"{stage}.csv"
        assert (tmp_path / "run/logs" / log).read_text() == (finished[1] / "logs" / log).read_text()


class Payload:
    """Would write a file where it is unpickled without care."""

    def __init__(self, canary) -> None:
        self.canary = canary

    def __reduce__(self):
        return (open, (str(self.canary), "w"))


@pytest.mark.fault(57)
@pytest.mark.parametrize("kind", ["payload", "cut short", "noise", "of another network"])
@pytest.mark.parametrize("name", ["teacher.ckpt", "teacher.safetensors"])
def test_a_damaged_or_hostile_checkpoint_is_refused_in_words(data, tmp_path, name, kind):
    options: Any = options_from(tiny_document(data, tmp_path / "run", epochs=1))
    damaged = tmp_path / "run" / "checkpoints" / name
    damaged.parent.mkdir(parents=True)
    (tmp_path / "run" / "options.json").write_text(json.dumps(options.as_dict()))
    canary = tmp_path / "canary"
    if kind == "of another network":
        state = {"a": torch.zeros(2)}
        if name.endswith(".ckpt"):
            torch.save({"state_dict": state, "epoch": 0}, damaged)
        else:
            save_file(state, damaged)
    else:
        torch.save({"state_dict": Payload(canary)}, damaged)
        content = damaged.read_bytes()
        cut = {"payload": content, "cut short": content[:-50], "noise": bytes(range(256))}
        damaged.write_bytes(cut[kind])
    with pytest.raises(ArtifactError, match=f"{name} is damaged, or of another network") as caught:
        train(options, resume=True)
    assert "Remove it" in caught.value.hint and not canary.exists()


def test_an_interrupt_is_one_and_leaves_ctrl_c_working(data, tmp_path, monkeypatch):
    original = TeacherStage.loss

    def loss(self, batch):
        if self.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)
        return original(self, batch)

    monkeypatch.setattr(TeacherStage, "loss", loss)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(options_from(tiny_document(data, tmp_path / "run", epochs=2)))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "run" / "checkpoints" / "teacher.ckpt").is_file()


def test_finished_stages_are_not_run_again(finished, data, tmp_path, monkeypatch):
    options: Any = options_from(tiny_document(data, tmp_path / "run", epochs=1))
    with monkeypatch.context() as patched:
        killed_at(patched, StudentStage, 0)
        with pytest.raises(KilledError):
            train(options)
    killed_at(monkeypatch, TeacherStage, 0)
    assert train(options, resume=True).verify()


def test_tasks_of_a_batch_system_are_not_taken_for_ranks(finished, data, tmp_path, monkeypatch):
    about = {"NTASKS": "4", "JOB_NAME": "train", "PROCID": "0", "LOCALID": "0", "NODEID": "0",
             "JOB_ID": "7", "NODELIST": "n1", "JOB_NUM_NODES": "1"}  # fmt: skip
    for name, value in about.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert train(options_from(tiny_document(data, tmp_path / "run", epochs=1))).verify()


def test_resuming_a_finished_run_returns_its_bundle(finished, data):
    again = train(options_from(tiny_document(data, finished[1], epochs=3)), resume=True)
    assert again.digest == finished[0].digest


def test_a_run_folder_is_neither_overwritten_nor_mixed(finished, data, tmp_path):
    with pytest.raises(InputError, match="already holds a run"):
        train(options_from(tiny_document(data, finished[1], epochs=3)))
    with pytest.raises(InputError, match="student"):
        changed = tiny_document(data, finished[1], epochs=3)
        changed["student"]["dropout"] = 0.5
        train(options_from(changed), resume=True)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        train(options_from(tiny_document(data, tmp_path)))


def test_one_class_is_refused_before_anything_is_written(tmp_path):
    index = tiny_index(tmp_path / "data", count=12)
    text = index.read_text()
    index.write_text(text.replace("River", "Forest").replace("SeaLake", "Forest"))
    with pytest.raises(InputError, match="at least two"):
        train(options_from(tiny_document(index, tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_patches_that_are_not_square_are_refused_before_anything_is_written(tmp_path):
    index = tiny_index(tmp_path / "data", count=12)
    for file in index.parent.glob("*.npy"):
        np.save(file, np.load(file)[:, :12])
    with pytest.raises(InputError, match="12 x 16 pixels, expected squares"):
        train(options_from(tiny_document(index, tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_a_run_without_data_or_folder_is_refused():
    with pytest.raises(InputError, match="data and out"):
        train(TrainOptions())


def test_the_frozen_networks_stay_as_they_are_while_the_student_learns(data, tmp_path):
    options: Any = options_from(tiny_document(data, tmp_path / "run", epochs=1))
    torch.set_num_threads(1)
    run = SceneRun.open(options, open_dataset(options.data), tmp_path / "run")
    supervision = run.supervise(run.train_teacher())
    sar = run.train_sar_auxiliary(supervision)
    optical = run.train_optical_auxiliary(supervision, sar)
    taught_by = (supervision.teacher, optical, sar)
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in taught_by]
    run.train_student(supervision, sar, optical)
    for net, state in zip(taught_by, before, strict=True):
        for name, value in net.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_all_views_answer_with_the_reliable_ones_whatever_the_batch_shows():
    given: Any = options_from({"distillation": {"reliable_clear_share": [0.0, 1.0]}})
    options = given.distillation
    each = EachView(torch.nn.Flatten(), options)  # the "images" are the logits

    def view(place, logits, clear_share, present=1.0):
        return {
            "optical": torch.tensor([logits]).reshape(1, 2, 1, 1),
            "availability": torch.tensor([[present, 1.0]]),
            "reliability": torch.tensor([clear_share]),
            "index": torch.tensor([place]),
        }

    sure, other = [0.0, 20.0], [20.0, 0.0]
    views = [view(0, sure, 0.9), view(0, other, 0.1), view(2, sure, 0.9, present=0.0)]
    joined = AllViews(each, views, count=3)
    answer = joined(view(0, other, 0.0))
    assert torch.softmax(answer.logits, 1)[0].tolist() == pytest.approx([0.1, 0.9], abs=1e-4)
    assert answer.reliability.item() == pytest.approx(0.9)
    nothing = joined(view(2, sure, 0.9))
    assert nothing.reliability.item() == 0
    assert torch.softmax(nothing.logits, 1)[0].tolist() == pytest.approx([0.5, 0.5])


def test_a_warm_started_student_begins_as_the_mean_of_its_auxiliaries():
    size = EncoderOptions(width=4, blocks=(1, 1))
    optical, sar = (UnimodalNet(c, 3, size).eval() for c in (5, 2))
    student = StudentNet(5, 2, 3, size, size).eval()
    student.start_from(optical, sar)
    images = torch.randn(4, 5, 16, 16), torch.randn(4, 2, 16, 16)
    logits, gate = student(*images, torch.ones(4, 2))
    alone = optical(images[0]) - optical.head.bias, sar(images[1]) - sar.head.bias
    bias = (optical.head.bias + sar.head.bias) / 2
    expected = gate[:, :1] * alone[0] + gate[:, 1:] * alone[1] + bias
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("draws", [0, 2])
def test_samples_are_shared_by_stages_and_changed_runs_only_if_they_repeat(data, tmp_path, draws):
    document = tiny_document(data, tmp_path / "run", epochs=1)
    document["clouds"] = {"draws": draws}
    options: Any = options_from(document)
    dataset = open_dataset(options.data)
    dataset.__class__ = type("Unhashable", (type(dataset),), {"__hash__": None})
    run = SceneRun.open(options, dataset, tmp_path / "run")
    assert (run.cloudy_samples() is run.cloudy_samples()) == bool(draws)
    other = run.with_options(options, tmp_path / "other")
    assert (other.cloudy_samples() is run.cloudy_samples()) == bool(draws)
    assert other.modalities is run.modalities  # measured once


def test_a_warm_start_needs_networks_of_one_size():
    document = {"warm_start": True, "student": {"optical": {"width": 8}}}
    with pytest.raises(InputError, match="warm_start needs"):
        options_from(document)


@pytest.mark.parametrize("view", ["clear", "cloudy"])
@pytest.mark.parametrize("beta", [-0.5, 0.5])
def test_every_protocol_gives_finite_losses_and_gradients(data, tmp_path, view, beta):
    document = tiny_document(data, tmp_path / "run", epochs=1)
    document["distillation"] = {"teacher_input": view, "label_weight": float(view == "clear")}
    document["student"]["irm"] = {"beta": beta, "warmup_epochs": 0}
    options: Any = options_from(document)
    run = SceneRun.open(options, open_dataset(options.data), tmp_path / "run")
    nets = [torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                                torch.nn.Linear(c, 3)) for c in (13, 13, 2)]  # fmt: skip
    keep_all = PseudoLabelFilter(torch.zeros(3), 0.0)
    supervision = Supervision(nets[0], EachView(nets[0], options.distillation), keep_all, {})
    stage = StudentStage((13, 2), torch.ones(3), options, supervision, *nets[1:])
    samples = run.cloudy_samples(drop_share=0.5)
    batch = torch.utils.data.default_collate([samples[i] for i in range(len(samples))])
    loss, logged = stage.loss(batch)
    loss.backward()
    assert all(torch.isfinite(value).all() for value in logged.values())
    assert all(torch.isfinite(p.grad).all() for p in stage.net.parameters() if p.grad is not None)
    assert all(p.grad is None for name in ("teacher", "optical", "sar")
               for p in stage.frozen(name).parameters())  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sead = 1", "'sead'"),
        ("[student.irm]\nbeta = 'much'", "'student.irm.beta'"),
        ("[student.schedule]\noptimizer = 'adam'", "'student.schedule.optimizer'"),
        ("[teacher]\nschedule = 3", "'teacher.schedule'"),
        ("[teacher.schedule]\nepochs = 0", "epochs"),
        ("[teacher.schedule]\nepochs = 2.5", "'teacher.schedule.epochs'"),
        ("[teacher.network]\nblocks = []", "'teacher.network.blocks'"),
        ("[distillation]\nreliable_clear_share = [0.9, 0.4]", "reliable_clear_share"),
        ("[clouds]\nclear_share = 2", "clear_share"),
        ("seed = ", "not TOML"),
    ],
)
def test_a_wrong_option_file_is_refused_and_the_key_named(tmp_path, text, named):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=named.replace("[", r"\[")) as caught:
        read_options(path)
    assert str(path) in str(caught.value)


def test_the_committed_configuration_is_read_and_flags_win():
    from esccs_edge import training

    path = f"{training.__path__[0]}/configs/eurosat.toml"
    options: Any = read_options(path, data="eurosat:x", out="y", seed=3)
    assert (options.data, options.out, options.seed) == ("eurosat:x", "y", 3)
    assert options.distillation.label_weight > 0


def test_a_clear_view_is_refused_where_no_clear_image_exists():
    with pytest.raises(InputError, match="teacher_input"):
        options_from({"clouds": {"simulate": False}, "distillation": {"teacher_input": "clear"}})


def test_without_simulation_the_teacher_leaves_out_images_that_look_cloudy():
    options: Any = options_from({"clouds": {"simulate": False}, "augment": {"shift_px": 0}})
    stage = TeacherStage(13, torch.ones(3), options)
    images = torch.randn(4, 13, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = {
        "clear": images.requires_grad_(),
        "label": torch.tensor([0, 1, 2, -1]),
        "availability": torch.ones(4, 2),
        "reliability": torch.tensor([1.0, 0.1, 0.95, 1.0]),
    }
    stage.eval()
    stage.loss(batch)[0].backward()
    used = images.grad.flatten(1).abs().sum(dim=1) > 0
    assert used.tolist() == [True, False, True, False]


def test_options_survive_json():
    options: Any = options_from({"teacher": {"network": {"width": 5, "blocks": [2, 1]}}})
    assert options_from(json.loads(json.dumps(options.as_dict()))) == options


def test_what_ran_before_a_stage_does_not_change_its_weights(data, tmp_path):
    options: Any = options_from(tiny_document(data, "", epochs=1))

    def trained(folder, *, disturbed: bool):
        run = SceneRun.open(options, open_dataset(options.data), tmp_path / folder)
        supervision = run.supervise(run.train_teacher())
        if disturbed:  # another stage, and draws of anyone
            run.with_options(options, tmp_path / "other").train_sar_auxiliary(supervision)
            torch.rand(17)
        sar = run.train_sar_auxiliary(supervision)
        optical = run.train_optical_auxiliary(supervision, sar)
        return [net.state_dict() for net in (sar, optical)]

    first, second = trained("a", disturbed=False), trained("b", disturbed=True)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_whose_options_lack_a_later_one_resumes_with_its_default(data, tmp_path, monkeypatch):
    options: Any = options_from(tiny_document(data, tmp_path / "run", epochs=1))
    with monkeypatch.context() as patched:
        killed_at(patched, TeacherStage, 0)
        with pytest.raises(KilledError):
            train(options)
    record = tmp_path / "run" / "options.json"
    before = json.loads(record.read_text())
    del before["task"], before["student"]["irm"]["clip"]
    record.write_text(json.dumps(before))
    assert train(options, resume=True).verify()


def test_changed_options_are_found_at_any_depth_and_unknown_ones_refused():
    options: Any = options_from({"student": {"dropout": 0.5}, "data": "here"})
    record = json.loads(json.dumps(options.as_dict()))
    del record["student"]["irm"], record["clouds"]
    record["data"] = "there"
    assert changed_options(record, options) == []
    record["student"]["irm"] = {"beta": 0.25}
    record["seed"] = 3
    assert changed_options(record, options) == ["seed", "student"]
    record["student"]["irm"] = {"gamma": 0.25}
    with pytest.raises(InputError, match="cannot go on: .*'student.irm.gamma'"):
        changed_options(record, options)


@pytest.mark.parametrize(
    ("statement", "unloaded"),
    [
        ("from esccs_edge.training.options_file import options_from; options_from({})", "torch"),
        ("import esccs_edge.export.to_onnx", "lightning"),
    ],
)
def test_options_load_no_torch_and_export_no_lightning(statement, unloaded):
    code = f"import sys; {statement}; sys.exit({unloaded!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
