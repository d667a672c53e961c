"""The runtime over a task that the package does not know: one modality, a map as output."""

from __future__ import annotations

import numpy as np
import pytest
from support.toy_task import CLASSES, ToyMapping, toy_bundle, toy_onnx, toy_pixels

from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.values import Flag
from esccs_edge.errors import InputError, ManifestError
from esccs_edge.runtime.model import ModelRuntime

FLOAT32_ATOL = 1e-4


@pytest.fixture
def toy(tmp_path):
    return toy_bundle(tmp_path / "toy")


@pytest.fixture
def model(toy):
    backend = CpuBackend(toy, toy.manifest, max_batch=4, precision="fp32")
    made = ModelRuntime(backend, toy.manifest, bundle=toy.identity)
    yield made
    made.close()


def by_onnx_runtime(manifest, pixels):
    onnxruntime = pytest.importorskip("onnxruntime")
    spec = manifest.modalities["radar"]
    normalized = (np.clip(pixels, *spec.clip) - spec.mean[0]) / spec.std[0]
    session = onnxruntime.InferenceSession(toy_onnx(manifest))
    inputs = {"radar": np.float32(normalized)[None], "availability": np.ones((1, 1), np.float32)}
    return session.run(None, inputs)[0][0]


def test_maps_come_back_in_batches_queued_and_streamed(model, toy):
    pixels = [toy_pixels(toy.manifest, seed) for seed in range(6)]
    wanted = [by_onnx_runtime(toy.manifest, image) for image in pixels]
    samples = [{"radar": image} for image in pixels]
    ways = {
        "one by one": [model.run(sample) for sample in samples],
        "batched": model.run_batch(samples),
        "queued": [model.submit(sample).result(20) for sample in samples],
        "streamed": list(model.stream(samples)),
    }
    for answers in ways.values():
        for answer, logits in zip(answers, wanted, strict=True):
            assert answer.probabilities.shape == (len(CLASSES), 16, 16)
            weights = np.exp(logits - logits.max(axis=0))
            np.testing.assert_allclose(
                answer.probabilities, weights / weights.sum(axis=0), atol=FLOAT32_ATOL
            )
    assert model.stats().completed == model.stats().submitted
    assert model.health().ok


def test_absent_pixels_and_unknown_modalities_are_said(model, toy):
    nothing = model.run({})
    assert nothing.labels is None and Flag.ALL_NODATA in nothing.flags
    with pytest.raises(InputError, match="modalities are optical, expected among radar"):
        model.run({"optical": toy_pixels(toy.manifest)})
    with pytest.raises(InputError, match="radar has shape"):
        model.run({"radar": np.zeros((2, 16, 16), np.float32)})


def test_the_manifest_carries_any_task_and_an_unknown_one_is_refused(toy):
    again = Bundle.open(toy.folder).manifest
    assert again == toy.manifest and again.logits == "class_scores"
    text = toy.manifest.to_json().replace("toy-mapping", "not-installed")
    with pytest.raises(ManifestError, match="'not-installed', expected one of .*toy-mapping"):
        type(again).from_json(text)


@pytest.mark.parametrize(
    ("method", "tensors", "message"),
    [
        ("inputs", (), "'inputs' is {}, expected the pixels of each modality"),
        ("outputs", (), "'outputs' is {}, expected one of logits"),
    ],
)
def test_a_task_whose_tensors_no_backend_could_fill_is_refused(
    toy, monkeypatch, method, tensors, message
):
    monkeypatch.setattr(ToyMapping, method, lambda *_: tensors)
    with pytest.raises(ManifestError, match=message):
        toy.manifest.evolve(name="other")


def test_a_package_adds_a_task_by_an_entry_point(tmp_path, monkeypatch):
    (tmp_path / "added_task.py").write_text(
        "from support.toy_task import ToyMapping\n"
        "class Added(ToyMapping):\n    name = 'added-by-a-package'\n"
        "task = Added()\n"
    )
    metadata = tmp_path / "added_task-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: added-task\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[esccs_edge.tasks]\nadded-by-a-package = added_task:task\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert task_named("added-by-a-package").name == "added-by-a-package"
