"""The front door for land cover: arrays of bytes, the same by every way a pair comes in."""

from __future__ import annotations

import asyncio
import json
import pickle

import numpy as np
import pytest
from support.small_segmenter import SIDE, calibrated_segmenter, exported_segmenter, scene
from support.tiny import tiny_bundle
from support.toy_task import toy_bundle

from esccs_edge import Classifier, Segmenter
from esccs_edge.backends.base import LaneOutput
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.values import NODATA, DevicePixels, Flag, PatchPair, PixelStats
from esccs_edge.errors import BackendError, ClosedError, InputError
from esccs_edge.runtime.postprocess import answers

pytest.importorskip("torch", reason="the small student is taught with torch")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return exported_segmenter(tmp_path_factory.mktemp("segmenter") / "bundle")


@pytest.fixture(scope="module")
def segmenter(bundle):
    with Segmenter(bundle, "cpu", max_batch=8, precision="fp32") as made:
        yield made


def assert_equal(first, second):
    """Sums in another order may round a byte the other way, and decide a tie."""
    assert (first.label == second.label).mean() > 0.995 and first.flags == second.flags
    for name in ("confidence", "scores"):
        difference = np.abs(np.subtract(getattr(first, name), getattr(second, name), dtype=int))
        assert difference.max() <= 1
    optical = np.abs(np.subtract(first.gate.optical, second.gate.optical, dtype=int))
    assert optical.max() <= 1


def test_an_answer_is_arrays_of_bytes_that_are_mostly_right(segmenter):
    one = scene(SIDE, SIDE, 900, cover=0.4)
    found = segmenter.segment(one.optical, one.sar)
    for image in (found.label, found.confidence, found.gate.optical, found.gate.sar):
        assert image.shape == (SIDE, SIDE) and image.dtype == np.uint8
    assert found.scores.shape == (4, SIDE, SIDE) and found.flags == frozenset()
    np.testing.assert_array_equal(found.gate.optical + found.gate.sar, 100)
    assert (found.label == one.classes).mean() > 0.8
    assert (found.cloud_affected == one.cloud).mean() > 0.95
    np.testing.assert_array_equal(found.scores.argmax(axis=0)[found.confidence > 60],
                                  found.label[found.confidence > 60])  # fmt: skip
    summary = json.loads(json.dumps(found.to_dict()))
    assert sum(summary["class_shares"].values()) == pytest.approx(1)
    assert summary["class_shares"].keys() == set(segmenter.manifest.classes)


def test_one_modality_alone_has_all_of_the_gate(segmenter):
    one = scene(SIDE, SIDE, 901)
    for optical, sar, share in ((one.optical, None, 100), (None, one.sar, 0)):
        found = segmenter.segment(optical, sar)
        assert found.flags == {Flag.MODALITY_MISSING}
        assert (found.gate.optical == share).all() and (found.gate.sar == 100 - share).all()


def test_pixels_without_any_modality_have_no_class(segmenter):
    one = scene(SIDE, SIDE, 902)
    optical, sar = one.optical.copy(), one.sar.copy()
    optical[:, :9], sar[:, 5:12] = 0, np.nan
    found = segmenter.segment(optical, sar)
    absent = np.zeros((SIDE, SIDE), bool)
    absent[5:9] = True
    for image in (found.label, found.confidence, found.gate.optical, found.gate.sar):
        np.testing.assert_array_equal(image == NODATA, absent)
    assert Flag.PARTIAL_NODATA in found.flags
    assert found.to_dict()["nodata_share"] == pytest.approx(4 / SIDE)
    assert sum(found.class_shares().values()) == pytest.approx(1)
    alone = segmenter.segment(optical, None)
    np.testing.assert_array_equal((alone.label == NODATA).all(axis=1), np.arange(SIDE) < 9)
    nothing = segmenter.segment(np.zeros_like(optical), None)
    assert Flag.ALL_NODATA in nothing.flags and (nothing.label == NODATA).all()
    assert nothing.to_dict()["mean_confidence"] is None


def test_every_call_answers_the_same(segmenter):
    scenes = [scene(SIDE, SIDE, 910 + seed) for seed in range(11)]
    alone = [segmenter.segment(one.optical, one.sar) for one in scenes]
    pairs = [(one.optical, one.sar) for one in scenes]
    batch = segmenter.segment_batch(*map(list, zip(*pairs, strict=True)))
    futures = [segmenter.submit(*pair) for pair in pairs]

    async def gather():
        return await asyncio.gather(
            *(segmenter.asegment(*pair, deadline_ms=20_000) for pair in pairs[:3])
        )

    ways = (batch, [f.result(20) for f in futures], list(segmenter.stream(pairs)))
    for way in (*ways, asyncio.run(gather())):
        for found, wanted in zip(way, alone, strict=False):
            assert_equal(found, wanted)
    assert segmenter.stats().to_dict()["completed"] >= 36


def test_a_bad_pair_fails_alone(segmenter):
    one = scene(SIDE, SIDE, 903)
    found = segmenter.segment_batch([one.optical, one.optical[:3]], [one.sar, one.sar])
    assert (found[0].label < 4).all() and isinstance(found[1], InputError)
    with pytest.raises(InputError, match="both lists are None"):
        segmenter.segment_batch(None, None)


def test_warmup_health_and_close(bundle):
    with Segmenter(bundle, "cpu", max_batch=2, lanes=1) as made:
        made.warmup()
        health = made.health()
        assert health.ok and health.bundle["name"] == "small-segmenter"
        assert made.backend_name == "cpu"
        with pytest.raises(TypeError, match="a Segmenter cannot be pickled"):
            pickle.dumps(made)
    one = scene(SIDE, SIDE, 904)
    with pytest.raises(ClosedError):
        made.segment(one.optical, one.sar)


def test_health_turns_red_when_labels_change(bundle, monkeypatch):
    with Segmenter(bundle, "cpu", max_batch=2, lanes=1) as made:
        lane_type = type(made._model.backend.open_lane())
        finish = lane_type.finish

        def damaged(self):
            output = finish(self)
            output.outputs["label"][:] = 3 - output.outputs["label"]
            return output

        monkeypatch.setattr(lane_type, "finish", damaged)
        assert "differently" in made.health().problem


def test_int8_answers_like_the_float_student(tmp_path, segmenter):
    bundle = calibrated_segmenter(tmp_path / "bundle")
    scenes = [scene(SIDE, SIDE, 920 + seed, cover=seed / 10) for seed in range(8)]
    opticals, sars = [one.optical for one in scenes], [one.sar for one in scenes]
    with Segmenter(bundle, "cpu", precision="int8") as quantized:
        found = quantized.segment_batch(opticals, sars)
    wanted = segmenter.segment_batch(opticals, sars)
    same = np.mean([(a.label == b.label).mean() for a, b in zip(found, wanted, strict=True)])
    assert same > 0.98


def test_not_a_number_in_the_network_is_an_error(segmenter):
    task_row = [np.zeros((SIDE, SIDE), np.uint8) for _ in range(3)] + [np.zeros((4, SIDE, SIDE))]
    task_row[1][3, 4] = 254
    task = task_named(segmenter.task)
    assert isinstance(task.answer(task_row, set(), segmenter.manifest), BackendError)


def test_absent_pixels_on_a_gpu_are_refused(segmenter):
    """It is not seen there which pixels are absent; with a whole modality nothing is."""
    manifest = segmenter.manifest
    sizes = {n: (1, *t.row) for n, t in manifest.returned.items()}
    outputs = {name: np.zeros(size, np.uint8) for name, size in sizes.items()}
    there = DevicePixels(1, (13, SIDE, SIDE), np.dtype(np.uint16), None, None)
    batch = [PatchPair(there, np.full((2, SIDE, SIDE), -12, np.float32))]

    def seen(valid):
        return [PixelStats(SIDE**2, valid, 0, 0, 0, 0.1, 0.3, 0.2)]

    def dark(valid):
        return [PixelStats(SIDE**2, valid, 0, 0, 0, -20.0, -5.0, -12.0)]

    output = LaneOutput(outputs, {"optical": seen(900), "sar": dark(SIDE**2)})
    assert (answers(output, batch, manifest)[0].label == 0).all()
    output = LaneOutput(outputs, {"optical": seen(900), "sar": dark(1000)})
    assert "host" in answers(output, batch, manifest)[0].hint


def test_other_tasks_are_named(tmp_path, bundle):
    with pytest.raises(InputError, match="'semantic-segmentation', expected 'scene-class") as error:
        Classifier(bundle, "cpu")
    assert "Segmenter" in str(error.value)
    with pytest.raises(InputError, match="expected 'semantic-segmentation'.*Classifier"):
        Segmenter(tiny_bundle(tmp_path / "tiny"), "cpu")
    with pytest.raises(InputError, match="toy-mapping.*open_model"):
        Segmenter(toy_bundle(tmp_path / "toy"), "cpu")
