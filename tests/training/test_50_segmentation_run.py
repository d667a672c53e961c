"""Semantic segmentation from data to a bundle: trained, judged, resumed, exported, evaluated."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load
from support.tiny_maps import CLASSES, tiny_map, tiny_map_document, tiny_map_index

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import InputError, ManifestError
from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.training.datasets.index_maps import IndexMaps
from esccs_edge.training.datasets.map_dataset import MemoryMaps
from esccs_edge.training.learning.tasks import learning_task
from esccs_edge.training.options_file import options_from, read_options
from esccs_edge.training.run import train
from esccs_edge.training.segmentation_options import SegmentationOptions
from esccs_edge.training.stages.semantic_segmentation.student import MapStudentStage
from esccs_edge.training.stages.stage import Stage

#: Every loss that there is, and validation after every epoch.
EVERYTHING = {"validate_every": 1}
STUDENT = {"removal_weight": 1.0, "feature_weight": 1.0, "gate": "reported"}


def options(data, out, epochs: int = 2, student=None, **changes) -> SegmentationOptions:
    document = tiny_map_document(data, out, epochs, **changes)
    document["student"] |= student or {}
    found = options_from(document)
    assert isinstance(found, SegmentationOptions)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_map_index(tmp_path_factory.mktemp("maps") / "data", count=16)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("maps-run") / "run"
    student, clouds = {"drop_share": 0.5}, {"clear_share": 0.5}
    return train(options(data, out, epochs=24, student=student, clouds=clouds))


def test_a_run_ends_with_a_bundle_that_says_what_was_simulated_and_how_masks_came(finished):
    manifest = finished.manifest
    assert manifest.task == "semantic-segmentation" and manifest.classes == CLASSES
    assert [t.name for t in manifest.outputs.values()][:2] == ["logits", "gate"]
    found = manifest.provenance
    assert found["simulated"]["cloud masks"] == "cloud masks are those of the simulator"
    assert "clouds" in found["simulated"] and found["options"]["cloud_mask"] == "simulator"
    assert found["metrics"]["cloud_mask"] == "simulator"
    assert found["data"]["split"].startswith("by group; no group")


def test_metrics_are_by_cover_and_sky_and_the_network_has_learned(finished):
    metrics = finished.manifest.provenance["metrics"]["test"]
    student = metrics["student"]
    assert set(student["by_cloud"]) == {"0-20", "20-40", "40-60", "60-80", "80-100"}
    assert student["overall"]["all"]["miou"] > 0.8 > 0.5
    assert (
        student["by_cloud"]["80-100"]["cloudy"]["pixels"]
        > 3 * (student["by_cloud"]["80-100"]["clear"]["pixels"])
    )
    assert metrics["student, SAR only"]["overall"]["all"]["miou"] > 0.7
    names = {"teacher on clear images", "teacher", "student on clear images", "student",
             "student, optical only", "student, SAR only"}  # fmt: skip
    assert set(metrics) == names


@pytest.mark.parametrize("lost", [0, 1], ids=["optical", "sar"])
def test_labels_are_right_where_a_modality_ends_inside_the_image(finished, lost):
    """New scenes under a clear sky: beyond the edge of a swath the other modality decides."""
    manifest = finished.manifest
    net = learning_task("semantic-segmentation").network(manifest)
    net.load_state_dict(load(finished.read("student.safetensors")))
    rng = np.random.default_rng(99)
    scenes = [tiny_map(rng, bands=13) for _ in range(16)]
    images = []
    for name, part in (("optical", 0), ("sar", 1)):
        spec = manifest.modalities[name]
        out = np.empty((16, len(spec.channels), 64, 64), np.float32)
        raw = [scene[part].copy() for scene in scenes]
        if part == lost:
            for pixels in raw:
                pixels[:, 36:] = spec.nodata if spec.nodata is not None else np.nan
        preprocess(raw, spec, out)
        images.append(torch.from_numpy(out))
    share = torch.ones(16, 2)
    share[:, lost] = 36 / 64
    with torch.no_grad():
        logits, gate = net.eval()(*images, share)
    right = (logits.argmax(dim=1).numpy() == np.stack([scene[2] for scene in scenes])).mean((0, 2))
    assert right[40:].mean() > 0.85 and right[:32].mean() > 0.9
    assert (gate[:, lost, 36:] == 0).all() and (gate[:, lost, :36] > 0).all()


def test_held_out_windows_are_files_with_a_map_each(finished):
    folder = finished.folder.parent / "heldout"
    with open(folder / "index.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 5 + 4 and {row["split"] for row in rows} == {"val", "test"}
    assert all(row["simulated"] == "clouds" for row in rows)
    target = np.load(folder / rows[0]["target"])
    assert target.shape == (64, 64) and (target[:2] == -1).all()


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Few places, for runs that are not judged by what they learn."""
    return tiny_map_index(tmp_path_factory.mktemp("few-maps") / "data", count=4)


@pytest.fixture(scope="module")
def whole(few, tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("whole") / "run"
    return train(options(few, out, student=STUDENT, **EVERYTHING))


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_a_killed_run_resumes_to_the_same_weights(few, whole, tmp_path, monkeypatch, stage):
    def given(name):
        return options(few, tmp_path / name, student=STUDENT, **EVERYTHING)

    with monkeypatch.context() as patched:
        original = Stage.training_step

        def step(self, batch, number):
            if self.name == stage and self.current_epoch == 1:
                raise KeyError("killed")
            return original(self, batch, number)

        patched.setattr(Stage, "training_step", step)
        with pytest.raises(KeyError, match="killed"):
            train(given("killed"))
    resumed = train(given("killed"), resume=True)
    assert resumed.read("student.safetensors") == whole.read("student.safetensors")


def test_a_data_set_in_memory_teaches_what_its_files_teach(few, whole, tmp_path):
    files = IndexMaps.open(few, CLASSES)
    named = ("name", "classes", "groups", "splits", "optical_channels", "sar_channels",
             "has_cloud_masks", "contracts", "simulated")  # fmt: skip
    kept = MemoryMaps(
        **{name: getattr(files, name) for name in named},
        samples=tuple(map(files.sample, range(len(files)))),
    )
    found = train(options("", tmp_path / "run", student=STUDENT, **EVERYTHING), dataset=kept)
    assert found.read("student.safetensors") == whole.read("student.safetensors")


def test_the_network_that_was_best_on_validation_is_kept(data, tmp_path, monkeypatch):
    """Weights that are spoiled in the last epoch are not those that the stage returns."""
    given = options(data, tmp_path / "run", epochs=8, validate_every=7)
    original = MapStudentStage.on_train_batch_end

    def spoiled(self, *words):
        original(self, *words)
        if self.current_epoch == 7:
            for value in self.average.parameters():
                value.data.zero_()

    answers = MapStudentStage.answers

    def all_wrong_once_spoiled(self, net, batch):
        if net.head.weight.any():
            return answers(self, net, batch)
        return torch.stack((batch["target"] == 1, batch["target"] == 0), dim=1).float()

    monkeypatch.setattr(MapStudentStage, "on_train_batch_end", spoiled)
    monkeypatch.setattr(MapStudentStage, "answers", all_wrong_once_spoiled)
    bundle = train(given)
    weights = load(bundle.read("student.safetensors"))
    assert weights["head.weight"].abs().max() > 0


def test_truly_cloudy_images_are_learned_with_masks_of_files(tmp_path):
    data = tiny_map_index(tmp_path / "data", extra=True)
    clouds = {"simulate": False}
    bundle = train(options(data, tmp_path / "run", clouds=clouds, cloud_mask="files"))
    found = bundle.manifest.provenance
    assert found["simulated"] == {"cloud masks": "cloud masks are files of the data set"}
    by_cloud = found["metrics"]["test"]["student"]["by_cloud"]
    assert by_cloud["40-60"]["cloudy"]["pixels"] > 0 and found["metrics"]["simulated"] == []


def test_the_weights_are_those_of_the_network_that_the_manifest_states(finished):
    net = learning_task("semantic-segmentation").network(finished.manifest)
    net.load_state_dict(load(finished.read("student.safetensors")))
    logits, gate = net.eval()(
        torch.zeros(1, 13, 64, 64), torch.zeros(1, 2, 64, 64), torch.ones(1, 2)
    )
    assert logits.shape == (1, 2, 64, 64) and gate.shape == (1, 2, 64, 64)
    broken = finished.manifest.evolve(architecture={"encoder": "x"})
    with pytest.raises(ManifestError, match="expected {'encoder', 'widths'"):
        learning_task("semantic-segmentation").network(broken)


def test_code_that_a_manifest_names_is_imported_only_if_the_user_names_it_too(
    finished, tmp_path, monkeypatch
):
    pytest.importorskip("onnxscript")
    from support.cli_parts import refused, run

    from esccs_edge.export import to_onnx
    from esccs_edge.training.learning import factories

    monkeypatch.setattr(factories, "_trusted", set(factories.ENCODERS))
    (tmp_path / "elsewhere.py").write_text(
        "from esccs_edge.training.learning.pyramid import convolutional as encoder\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    files = {name: finished.read(name) for name in finished.manifest.files}
    own = Bundle.create(tmp_path / "own", finished.manifest, files)
    named = {**finished.manifest.architecture, "encoder": "elsewhere:encoder"}
    manifest = finished.manifest.evolve(architecture=named)
    foreign = Bundle.create(tmp_path / "foreign", manifest, files)
    for bundle, words, message in (
        (foreign, (), "names the encoder 'elsewhere:encoder', expected one of esccs_edge."),
        (foreign, ("--encoder", "os:getcwd"), "the bundle names 'elsewhere:encoder'"),
        (own, ("--encoder", "elsewhere:encoder"), "the bundle names 'esccs_edge."),
    ):
        said = refused(run("export", bundle.folder, *words))
        assert message in " ".join(said.split()) and "elsewhere" not in sys.modules
        assert not (bundle.folder / "student.onnx").exists()
    to_onnx._trust("elsewhere:encoder", manifest)  # as --encoder does
    assert to_onnx.load_student(foreign) is not None and sys.modules.pop("elsewhere")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crop": 100}, "'crop' is 100, expected a multiple of 32"),
        ({"crop": 128}, "has 64 x 64 pixels, expected at least 128"),
        ({"classes": None}, "has the classes \\[\\], expected at least two"),
        ({"cloud_mask": "files"}, "expected 'simulator' or 'estimate' where clouds.simul"),
        ({"clouds": {"simulate": False}}, "expected 'files' or 'estimate'"),
        ({"clouds": {"simulate": False}, "cloud_mask": "files"}, "has no cloud masks"),
        ({"network": {"widths": [1, 2]}}, "network.widths"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_before_anything_is_written(
    data, tmp_path, changes, words
):
    with pytest.raises(InputError, match=words):
        train(options(data, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_the_paper_s_configuration_has_its_losses_and_rates(tmp_path):
    from pathlib import Path

    import esccs_edge.training as package

    configs = Path(next(iter(package.__path__))) / "configs"
    found = read_options(configs / "segmentation-cloudseg.toml")
    assert isinstance(found, SegmentationOptions)
    student = found.student
    assert (student.removal_weight, student.feature_weight, student.answer_weight) == (1, 1, 0)
    assert (found.crop, student.schedule.batch_size, found.validate_every) == (160, 32, 2)

    class Trainer:
        estimated_stepping_batches = 300

    stage = Stage(torch.nn.Linear(1, 1), student.schedule, "student", 0)
    stage._trainer = Trainer()  # type: ignore[assignment]
    made = stage.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(300):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    wanted = [1e-4] * 100 + [5e-5] * 50 + [2.5e-5] * 50 + [1.25e-5] * 50 + [6.25e-6] * 50
    assert rates == pytest.approx(wanted)


def test_a_bundle_is_evaluated_by_the_command(finished, data, tmp_path):
    pytest.importorskip("onnxscript")
    from support.cli_parts import run, run_json

    from esccs_edge.export.to_onnx import export_student

    files = {name: finished.read(name) for name in finished.manifest.files}
    bundle = export_student(Bundle.create(tmp_path / "bundle", finished.manifest, files))
    words = ("evaluate", bundle.folder, data, "--clouds", 7, "--backend", "cpu")
    found = run_json(*words, "--precision", "fp32")
    overall = found["overall"]
    trained = json.loads((finished.folder.parent / "metrics.json").read_text())["test"]["student"]
    assert overall["all"]["miou"] == pytest.approx(trained["overall"]["all"]["miou"], abs=0.1)
    assert overall["all"]["pixels"] == 4 * 5 * 62 * 64 and overall["all"]["failed"] == 0
    assert overall["clear"]["pixels"] + overall["cloudy"]["pixels"] == overall["all"]["pixels"]
    assert set(overall["all"]["iou"]) == set(CLASSES) and found["simulated"] == ["clouds"]
    sar = run(*words, "--only", "sar").output
    assert "cloudy" in sar and "simulated" not in sar
    overall_line = next(line for line in sar.splitlines() if "overall" in line)
    assert float(overall_line.split()[1]) > 0.6
