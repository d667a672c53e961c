"""The model of pixel series in the package, and the real series beside it, as a user meets them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from esccs_edge import Bundle, Flag, SeriesClassifier, example_series
from esccs_edge.cli import main
from esccs_edge.system.cpu_features import has_int8_dot_products

MAX_BYTES = 1_000_000
#: What INT8 may cost, in points of balanced accuracy.
MAX_COST = 0.5


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open("crop-series")


@pytest.fixture(scope="module")
def model():
    with SeriesClassifier(backend="cpu", threads=1) as opened:
        yield opened


def test_the_bundle_is_small_whole_int8_and_says_where_it_comes_from(bundle):
    assert "student.int8.onnx" == bundle.manifest.model in bundle.verify()
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) <= MAX_BYTES
    accuracy = bundle.manifest.quantization["balanced_accuracy"]
    assert 100 * (accuracy["fp32"] - accuracy["int8"]) <= MAX_COST
    origin = bundle.manifest.provenance
    assert "WorldCereal" in origin["data"]["name"] and origin["data"]["pairs"]["test"] > 100
    assert "no group is in two splits" in origin["data"]["split"]
    assert "masked at random" in origin["simulated"]["dates"]


def test_the_example_is_real_has_gaps_and_fits_the_model(model):
    series = example_series()
    assert {one.label for one in series} == set(model.manifest.classes)
    gaps = [1 - one.optical.any(axis=0).mean() for one in series]
    assert 0.2 < np.mean(gaps) < 0.8
    for one in series:
        answer = model.classify(one.optical, one.sar, one.dates)
        assert answer.seen["optical"] == tuple(one.optical.any(axis=0))
        assert answer == model.classify(one.optical, one.sar)  # they stand in the slots already
        alone = model.classify(None, one.sar, one.dates)
        assert Flag.MODALITY_MISSING in alone.flags and alone.gate.optical == 0
        with pytest.raises(ValueError, match="read-only"):
            one.sar[0, 0] = 0


@pytest.fixture(scope="module")
def published(sample_data):
    """The series that the model comes from, and the numbers of those that judge it."""
    pytest.importorskip("torch", reason="the reader is of training")
    pytest.importorskip("pyarrow", reason="WorldCereal is Parquet")
    from esccs_edge.training.datasets.worldcereal import open_worldcereal

    file = sample_data / "worldcereal" / "2023_FRA_LPIS_POLY_110.geoparquet"
    dataset = open_worldcereal(file, legend="crops")
    return dataset, np.flatnonzero(np.array(dataset.splits) == "test")


@pytest.mark.data
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_int8_costs_next_to_nothing_on_places_it_never_saw(published, rate):
    if not has_int8_dot_products():
        pytest.skip("without INT8 dot products sums of 16 bits saturate; 'auto' avoids that")
    dataset, tested = published
    from esccs_edge.training.judging.metrics import balanced_accuracy, confusion_matrix
    from esccs_edge.training.simulate.missing_dates import keep_dates

    optical, sar = (dataset.pixels[name][tested][..., 0, 0] for name in ("optical", "sar"))
    for pixels, index in zip(optical, tested, strict=True):
        rng = np.random.default_rng(index)
        pixels[:, ~keep_dates(pixels.any(axis=0), rate, "uniform", rng)] = 0
    said = {}
    for precision in ("fp32", "int8"):
        with SeriesClassifier(backend="cpu", precision=precision, threads=1) as model:
            answers = model.classify_batch(list(optical), list(sar))
            said[precision] = np.array([dataset.classes.index(one.label) for one in answers])
    accuracy = {
        name: 100 * balanced_accuracy(confusion_matrix(dataset.targets[tested], labels, 6))
        for name, labels in said.items()
    }
    assert accuracy["fp32"] - accuracy["int8"] <= MAX_COST and accuracy["int8"] > 45
    assert (said["fp32"] == said["int8"]).mean() > 0.95


@pytest.mark.data
def test_the_example_is_what_the_published_file_holds(published, model):
    dataset, tested = published
    assert len(tested) == model.bundle.manifest.provenance["data"]["pairs"]["test"]
    for number, one in enumerate(example_series()):
        index = int(tested[np.argmax(dataset.targets[tested] == number)])
        assert dataset.classes[number] == one.label
        np.testing.assert_array_equal(dataset.pixels["optical"][index][..., 0, 0], one.optical)
        np.testing.assert_allclose(dataset.pixels["sar"][index][..., 0, 0], one.sar, atol=0.00501)


def test_the_demo_shows_every_series_three_ways(tmp_path):
    words = ["demo", "--task", "series-classification", "--backend", "cpu", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"seasons.png", "summary.json"}
    assert (tmp_path / "seasons.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads(result.stdout)["series"]
    assert [one["declared"] for one in found] == [one.label for one in example_series()]
    for one in found:
        whole, half = (sum(one[key]["seen"]["optical"]) for key in ("as_it_is", "half_hidden"))
        assert half == -(-whole // 2) and not any(one["sar_alone"]["seen"]["optical"])
    text = CliRunner().invoke(main, words)
    assert "prove nothing" in text.output and "Etalab-2.0" in text.output
    simulated = CliRunner().invoke(main, [*words, "--simulated"])
    assert simulated.exit_code == 2 and "no simulated series" in simulated.stderr
