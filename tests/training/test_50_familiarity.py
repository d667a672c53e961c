"""The distance from the training data: against a slow twin, fitted, exported, and as a flag.

All students and pairs here are simulated.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from support.small_student import ARCHITECTURE, familiar_bundle, small_bundle, small_pair
from support.tiny import tiny_manifest

from esccs_edge.calibration.torch_graph import FakeQuantGraph
from esccs_edge.classifier import Classifier
from esccs_edge.contracts.values import Flag
from esccs_edge.export.parity import REDUCED_TOLERANCE, check_parity
from esccs_edge.export.to_onnx import load_student
from esccs_edge.system.cpu_features import has_int8_dot_products
from esccs_edge.training.judging.familiarity import QUANTILE, Measured, fit
from esccs_edge.training.learning.pixel_distance import (
    CHANNEL_FLOOR,
    STILL,
    STRIDE,
    TOTAL_FLOOR,
    PixelDistance,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return familiar_bundle(tmp_path_factory.mktemp("familiar") / "bundle")


def slow_statistics(image: np.ndarray) -> np.ndarray:
    """Of one whole patch ``(C, H, W)``, pixel by pixel."""
    height, width = image.shape[1:]
    places = [(y, x) for y in range(0, height - 1, STRIDE) for x in range(0, width - 4, STRIDE)]
    here = np.array([image[:, y, x] for y, x in places])
    near = here - [image[:, y + 1, x + 1] for y, x in places]
    far = here - [image[:, y, x + 4] for y, x in places]
    spans = [np.abs(near).mean(0), np.abs(far).mean(0)]
    gray = [np.abs(far.mean(1)).mean(), np.abs(near.mean(1)).mean()]
    totals = [np.abs(far).mean(), np.abs(near).mean()]
    logs = [*np.log(np.add(spans, CHANNEL_FLOOR)), np.log(np.add([*gray, *totals], TOTAL_FLOOR))]
    return np.concatenate([here.mean(0), *logs, [STILL / (totals[1] + STILL)]])


@pytest.mark.parametrize("size", [8, 16, 21])
def test_the_statistics_equal_their_slow_twin(size):
    images = torch.randn(3, 4, size, size)
    found = PixelDistance(4).statistics(images, torch.ones(3, 1))
    wanted = np.stack([slow_statistics(image) for image in images.double().numpy()])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_missing_pixels_do_not_count():
    images = 1 + 0.1 * torch.randn(4, 3, 64, 64)
    half = images.clone()
    half[:, :, :32] = 0
    part = PixelDistance(3)
    whole, cut = (
        part.statistics(images, torch.ones(4, 1)),
        part.statistics(half, torch.ones(4, 1) / 2),
    )
    torch.testing.assert_close(cut, whole, rtol=0, atol=0.3)
    assert not part(half, torch.zeros(4, 1)).any()


def test_contrasts_say_of_differences_how_they_differ():
    part = PixelDistance(2)
    images = torch.randn(200, 2, 32, 32)  # noise: near and far pixels have as much in common
    found = part.statistics(images, torch.ones(200, 1)) @ part.contrasts
    near, far_over_near, total_far_over_near = found[:, 2:4], found[:, 4:6], found[:, 8]
    assert near.mean() == pytest.approx(np.log(2 / np.sqrt(np.pi)), abs=0.05)
    assert far_over_near.abs().mean() < 0.15 and abs(total_far_over_near.mean()) < 0.05


def test_a_fit_calls_as_many_familiar_as_it_says_and_foreign_ones_not():
    torch.manual_seed(0)
    part = PixelDistance(2)
    statistics = torch.randn(600, 11) @ torch.randn(11, 11)
    places = np.array([f"p{i // 10}" for i in range(600)])
    found = fit(part, {"clear": Measured(statistics, places)})
    assert (found.samples, found.places, found.quantile) == (600, 60, QUANTILE)
    away = ((statistics - part.center) @ part.whitening).square().mean(dim=1).sqrt()
    assert 0.96 < (away <= found.threshold).float().mean() < 1
    far = statistics + 8 * statistics.std(dim=0)
    assert (((far - part.center) @ part.whitening).square().mean(1).sqrt() > found.threshold).all()


def test_few_places_can_be_fitted_and_kinds_count_alike():
    part = PixelDistance(2)
    one = Measured(torch.randn(20, 11), np.array(["only"] * 20))
    assert fit(part, {"clear": one}).places == 1
    many = Measured(torch.randn(200, 11) + 4, np.array([f"p{i}" for i in range(200)]))
    few = Measured(torch.randn(20, 11), np.array([f"p{i}" for i in range(20)]))
    fit(part, {"clear": few, "clouded": many})
    centers = (few.statistics.mean(0) + many.statistics.mean(0)) / 2
    torch.testing.assert_close(part.center, centers, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="no sample"):
        fit(part, {"clear": Measured(torch.empty(0, 11), np.array([], str))})


def test_students_without_distances_are_as_before(tmp_path, bundle):
    plain = load_student(small_bundle(tmp_path / "plain"))
    assert not [name for name in plain.state_dict() if "distances" in name]
    manifest = tiny_manifest(32, architecture=ARCHITECTURE)
    inputs = [torch.randn(2, *manifest.inputs[name].row) for name in ("optical", "sar")]
    old, new = (net(*inputs, torch.ones(2, 2)) for net in (plain, load_student(bundle)))
    assert len(old) == 2 and len(new) == 3
    for before, after in zip(old, new, strict=False):
        torch.testing.assert_close(before, after)


def test_float_and_int8_graphs_answer_the_distance_of_the_trained_network(bundle):
    for row in check_parity(bundle).rows:
        assert row.worst["distance"] <= row.allowed["distance"]
    assert REDUCED_TOLERANCE.distance > 0
    nodes = onnx.load_from_string(bundle.read("student.int8.onnx")).graph.node
    assert all(len([n for n in nodes if name in n.input]) == 1 for name in ("optical", "sar"))


def test_the_graph_that_learns_answers_the_distance_too(bundle):
    content = bundle.read("student.int8.onnx")
    graph = FakeQuantGraph(
        onnx.load_from_string(bundle.read("student.onnx")), onnx.load_from_string(content)
    )
    with np.load(bundle.folder / "reference.npz") as sheet:
        inputs = {name: sheet[name] for name in bundle.manifest.inputs}
    wanted = ort.InferenceSession(content).run(["distance"], inputs)[0]
    found = graph({name: torch.from_numpy(array) for name, array in inputs.items()})["distance"]
    np.testing.assert_allclose(found.detach(), wanted, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_flag_is_raised_on_what_is_no_scene_and_rarely_on_scenes(bundle, precision):
    if precision == "int8" and not has_int8_dot_products():
        pytest.skip("without INT8 dot products sums of 16 bits saturate; 'auto' avoids that")
    manifest, rng = bundle.manifest, np.random.default_rng(5)
    scenes = [small_pair(i % 4, 0.5 * (i % 2), manifest, rng) for i in range(80)]
    noise = [rng.integers(1, 10_000, (13, 32, 32)).astype(np.uint16) for _ in range(20)]
    flat = [np.full((13, 32, 32), level, np.uint16) for level in (3, 400, 1500, 4000, 9000)]
    loud = [rng.uniform(-34, 0, (2, 32, 32)).astype(np.float32) for _ in range(20)]
    still = [np.full((2, 32, 32), level, np.float32) for level in (-25, -14, -5)]
    with Classifier(bundle.folder, backend="cpu", precision=precision) as classifier:

        def raised(opticals, sars) -> float:
            answers = classifier.classify_batch(opticals, sars)
            return float(np.mean([Flag.UNFAMILIAR in answer.flags for answer in answers]))

        assert raised(*zip(*scenes, strict=True)) <= 0.1
        for odd in (noise, flat):
            assert raised(odd, [None] * len(odd)) == 1
        for odd in (loud, still):
            assert raised([None] * len(odd), odd) == 1
        assert raised([scenes[0][0]], [loud[0]]) == 1
