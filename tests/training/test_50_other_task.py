"""A task that the package does not know is trained, resumed and exported: one modality, maps."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.toy_learning import ToyData, ToyLearning, ToyOptions, ToyStage, write_toy_data
from support.toy_task import CLASSES, SIDE, ToyMapping

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import InputError, ManifestError
from esccs_edge.training.learning.tasks import learning_task, register
from esccs_edge.training.options_file import options_from
from esccs_edge.training.provenance import provenance
from esccs_edge.training.run import train

#: Two float32 programs of the same sums in another order.
FLOAT32_ATOL = 1e-4


def options(data, out, **changes) -> ToyOptions:
    found = options_from({"task": ToyMapping.name, "data": str(data), "out": str(out), **changes})
    assert isinstance(found, ToyOptions)
    return found


def copied(bundle: Bundle, folder) -> Bundle:
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    return Bundle.create(folder, bundle.manifest, files)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy_data(tmp_path_factory.mktemp("toy") / "toy.npz")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Bundle:
    return train(options(data, tmp_path_factory.mktemp("toy-run") / "run", threads=1))


def test_options_of_another_task_are_read_by_its_own_class(data):
    found = options(data, "x", width=3, schedule={"epochs": 2})
    assert isinstance(found, ToyOptions)
    assert (found.width, found.schedule.epochs) == (3, 2)
    with pytest.raises(InputError, match="unknown option 'warm_start', expected among task, data"):
        options(data, "x", warm_start=True)
    with pytest.raises(InputError, match="schedule: option 'epochs' is 0"):
        options(data, "x", schedule={"epochs": 0})


def test_another_task_is_trained_to_a_bundle_with_its_name_and_metrics(finished):
    manifest = finished.manifest
    assert manifest.task == ToyMapping.name and manifest.architecture == {"width": 4}
    assert list(manifest.modalities) == ["radar"] and manifest.logits == "class_scores"
    metrics = manifest.provenance["metrics"]["test"]["student"]
    assert metrics["pixel_accuracy"] > 0.9
    assert manifest.provenance["simulated"] == {"radar": "all of it"}
    assert manifest.provenance["data"]["pairs"] == {"train": 12, "val": 6, "test": 6}
    assert manifest.provenance["options"]["width"] == 4


def test_held_out_samples_of_another_task_are_files_with_a_map_each(finished):
    folder = finished.folder.parent / "heldout"
    with open(folder / "index.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["split"] for row in rows} == {"val", "test"} and len(rows) == 12
    assert list(rows[0]) == ["radar", "label", "group", "split", "cover", "target"]
    target = np.load(folder / rows[0]["target"])
    assert target.shape == np.load(folder / rows[0]["radar"]).shape[1:] == (SIDE, SIDE)


def test_a_killed_run_of_another_task_resumes_to_the_same_weights(
    finished, data, tmp_path, monkeypatch
):
    given = options(data, tmp_path / "run", threads=1)
    with monkeypatch.context() as patched:
        original = ToyStage.loss

        def loss(self, batch):
            if self.name == "student" and self.current_epoch == 7:
                raise KeyError("killed")
            return original(self, batch)

        patched.setattr(ToyStage, "loss", loss)
        with pytest.raises(KeyError, match="killed"):
            train(given)
    resumed = train(given, resume=True)
    assert resumed.read("student.safetensors") == finished.read("student.safetensors")


def test_another_task_is_exported_to_a_graph_that_answers_like_its_network(finished, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from esccs_edge.export.to_onnx import export_student, load_student

    bundle = export_student(copied(finished, tmp_path / "bundle"))
    session = ort.InferenceSession(bundle.read("student.onnx"))
    radar = np.random.default_rng(0).normal(0, 1, (3, 1, SIDE, SIDE)).astype(np.float32)
    inputs = {"radar": radar, "availability": np.float32([[1], [0.5], [0]])}
    (scores,) = session.run(["class_scores"], inputs)
    assert scores.shape == (3, len(CLASSES), SIDE, SIDE)
    with torch.inference_mode():
        expected = load_student(bundle)(*map(torch.from_numpy, inputs.values()))
    np.testing.assert_allclose(scores, expected.numpy(), atol=FLOAT32_ATOL)


def test_an_unknown_task_is_refused_and_a_name_is_taken_once(data, tmp_path):
    with pytest.raises(InputError, match="option 'task' is 'none-such', expected one of .*toy"):
        options_from({"task": "none-such"})
    with pytest.raises(
        InputError, match="two parts of esccs_edge.learning_tasks are called 'toy-mapping'"
    ):
        register(type("Other", (), {"name": ToyMapping.name})())
    assert learning_task(ToyMapping.name).options_class is ToyOptions


def test_a_task_that_no_runtime_knows_is_refused_before_any_stage(data, tmp_path, monkeypatch):
    class Unanswered(ToyLearning):
        name = "without-answers"

        def train(self, run):
            raise AssertionError("a stage was started")

    register(Unanswered())
    given = options(data, tmp_path / "run").evolve(task=Unanswered.name)
    with pytest.raises(ManifestError, match="'task' is 'without-answers'"):
        train(given)
    assert not (tmp_path / "run").exists()


def test_provenance_says_how_many_groups_are_in_two_splits(data, tmp_path):
    class OnePlace(ToyData):
        groups = property(lambda self: ("one",) * len(self))

    task, given = learning_task(ToyMapping.name), options(data, "x")
    run = task.open(given, task.open_data(given), tmp_path)
    torn = replace(run, dataset=OnePlace(**vars(run.dataset)))
    found = [provenance(used, {}, {})["data"]["split"] for used in (run, torn)]
    assert found == [f"by group; {count} group is in two splits" for count in ("no", 1)]


def test_a_package_adds_a_learning_task_by_an_entry_point(tmp_path, monkeypatch):
    (tmp_path / "added_learning.py").write_text(
        "from support.toy_learning import ToyLearning\n"
        "class Added(ToyLearning):\n    name = 'learned-by-a-package'\n"
        "task = Added()\n"
    )
    metadata = tmp_path / "added_learning-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: added-learning\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[esccs_edge.learning_tasks]\nlearned-by-a-package = added_learning:task\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert learning_task("learned-by-a-package").name == "learned-by-a-package"
