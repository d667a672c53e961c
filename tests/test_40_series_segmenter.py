"""The front door for image series: the same answer by every way in, and clear words for bad input.

The network is untrained: what is asked is where pixels and dates go, not whether it is right.
"""

from __future__ import annotations

import asyncio
import json
import pickle

import numpy as np
import pytest
from support.cli_parts import run_json
from support.small_series import series_manifest

from esccs_edge import Bundle, Classifier, Flag, SeriesClassifier, SeriesSegmenter
from esccs_edge.contracts.values import NODATA
from esccs_edge.errors import ClosedError, InputError

torch = pytest.importorskip("torch", reason="export needs torch")
from safetensors.torch import save  # noqa: E402

from esccs_edge.training.learning.tasks import learning_task  # noqa: E402

SIZES = {"widths": [4, 4, 8, 8], "decoder": [8, 4, 4, 4]}
#: One in each month of the calendar, from September on.
DATES = ["2021-09-10", "2021-10-20", "2021-11-01", "2021-12-31"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    manifest = series_manifest(4, 16, ("optical",), architecture=SIZES)
    torch.manual_seed(0)
    net = learning_task(manifest.task).network(manifest)
    folder = tmp_path_factory.mktemp("segmenter") / "bundle"
    Bundle.create(folder, manifest, {"student.safetensors": save(net.state_dict())})
    run_json("export", folder)
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def segmenter(bundle):
    with SeriesSegmenter(bundle, "cpu", max_batch=4, precision="fp32") as made:
        yield made


@pytest.fixture
def series():
    rng = np.random.default_rng(0)
    ground = rng.integers(300, 4000, (3, 4, 4, 4)).astype(np.uint16)
    return ground.repeat(4, axis=2).repeat(4, axis=3)


def assert_same(first, second):
    np.testing.assert_array_equal(first.label, second.label)
    assert np.abs(np.subtract(first.scores, second.scores, dtype=int)).max() <= 1
    assert (first.flags, first.seen) == (second.flags, second.seen)


def test_an_answer_is_arrays_and_the_dates_that_were_seen(segmenter, series):
    series[:, 2] = 0
    series[:, :, :8, 3] = 0
    found = segmenter.segment(series, None)
    for image in (found.label, found.confidence):
        assert image.shape == (16, 16) and image.dtype == np.uint8
    assert found.scores.shape == (3, 16, 16) and Flag.PARTIAL_NODATA in found.flags
    assert found.seen["optical"] == pytest.approx([1 - 8 / 256, 1 - 8 / 256, 0, 1 - 8 / 256])
    never = np.zeros((16, 16), bool)
    never[:8, 3] = True
    np.testing.assert_array_equal(found.label == NODATA, never)
    assert json.loads(json.dumps(found.to_dict()))["seen"]["optical"][2] == 0


def test_every_way_in_gives_the_same_answer(segmenter, series):
    wanted = segmenter.segment(series, None)
    assert_same(segmenter.segment(series, None, DATES), wanted)
    assert_same(segmenter.submit(series, None, DATES).result(), wanted)
    asked = segmenter.asegment(series, None, {"optical": DATES}, deadline_ms=20_000)
    assert_same(asyncio.run(asked), wanted)
    for found in (
        segmenter.segment_batch([series] * 5, None),
        segmenter.segment_batch(np.stack([series] * 2), None, [DATES, None]),
        list(segmenter.stream([(series, None), (series, None, DATES)])),
    ):
        for answer in found:
            assert_same(answer, wanted)


def test_no_bundle_of_the_task_ships_and_the_error_says_what_to_do():
    with pytest.raises(
        InputError, match="none in the package does 'series-segmentation'"
    ) as caught:
        SeriesSegmenter()
    assert "esccs-edge train --task series-segmentation" in caught.value.hint


def test_dates_put_images_where_they_belong(segmenter, series):
    gappy = series.copy()
    gappy[:, 1:3] = 0
    found = segmenter.segment(series[:, [0, 3]], None, [DATES[0], DATES[3]])
    assert_same(found, segmenter.segment(gappy, None))
    assert found.seen["optical"] == (1.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (DATES[::-1], "not sorted"),
        ([DATES[0], DATES[0], *DATES[2:]], "twice"),
        ([*DATES[:3], "2022-01-01"], "out of the season"),
        (DATES[:3], "3 dates"),
        ([*DATES[:3], "soon"], "cannot be read"),
        ({"sar": DATES}, "expected those of optical"),
    ],
)
def test_dates_that_cannot_be_are_refused(segmenter, series, dates, message):
    with pytest.raises(InputError, match=message):
        segmenter.segment(series, None, dates)
    bad, good = segmenter.segment_batch([series] * 2, None, [dates, DATES])
    assert isinstance(bad, InputError) and good.label.shape == (16, 16)


def test_series_of_another_form_are_refused(segmenter, series):
    for wrong, message in (
        (series[:, :3], "3 dates, expected 4"),
        (series[:2], "2"),
        (series[:, :, :15], "15"),
        (series[:, 0], "4"),
    ):
        with pytest.raises(InputError, match=message):
            segmenter.segment(wrong, None)
    with pytest.raises(InputError, match="sar"):
        segmenter.segment(series, np.zeros((2, 4, 16, 16), np.float32))
    with pytest.raises(InputError, match="as many"):
        segmenter.segment_batch([series], None, [DATES, DATES])
    with pytest.raises(InputError, match="both lists are None"):
        segmenter.segment_batch(None, None)


def test_a_series_without_any_pixel_is_flagged(segmenter, series):
    for empty in (np.zeros_like(series), None):
        found = segmenter.segment(empty, None)
        assert Flag.ALL_NODATA in found.flags and (found.label == NODATA).all()
        assert not any(found.seen["optical"])


def test_health_closing_and_the_other_doors(bundle, series):
    with SeriesSegmenter(bundle, "cpu", max_batch=2) as model:
        model.warmup()
        assert model.health().ok and model.backend_name == "cpu"
        with pytest.raises(TypeError, match="SeriesSegmenter cannot be pickled"):
            pickle.dumps(model)
    with pytest.raises(ClosedError):
        model.segment(series, None)
    for door in (Classifier, SeriesClassifier):
        with pytest.raises(InputError, match="series-segmentation") as caught:
            door(bundle, backend="cpu")
        assert "SeriesSegmenter" in caught.value.hint
