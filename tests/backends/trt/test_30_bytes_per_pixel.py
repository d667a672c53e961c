"""TensorRT lanes bring back the images of bytes of a segmentation student, over the fake GPU."""

from __future__ import annotations

import numpy as np
import pytest
from support.small_segmenter import SIDE, exported_segmenter, scene
from support.trt_machine import Machine, cpu_answer

from esccs_edge import Segmenter
from esccs_edge.contracts.values import PatchPair

pytest.importorskip("torch", reason="the small student is taught with torch")


@pytest.mark.parametrize("integrated", [False, True])
def test_lane_answers_bytes_as_the_cpu_backend(monkeypatch, tmp_path, integrated):
    machine = Machine(monkeypatch, tmp_path, exported_segmenter, integrated=integrated)
    backend = machine.open()
    lane = backend.open_lane()
    for count in (4, 1, 3):
        scenes = [scene(SIDE, SIDE, 40 + seed) for seed in range(count)]
        samples = [PatchPair(one.optical, None if i == 2 else one.sar)
                   for i, one in enumerate(scenes)]  # fmt: skip
        found = lane.answer(samples)
        wanted = cpu_answer(tmp_path / "bundle", samples)
        assert found.outputs.keys() == machine.manifest.returned.keys()
        for name, image in found.outputs.items():
            assert image.dtype == np.uint8 and image.shape == wanted.outputs[name].shape
            difference = np.abs(np.subtract(image, wanted.outputs[name], dtype=np.int16))
            assert (difference > 1).mean() < 0.005  # a near tie may fall to either class
    backend.close()
    assert machine.driver.released


def test_segmenter_runs_on_tensorrt(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path, exported_segmenter)
    monkeypatch.setattr("esccs_edge.any_task.open_backend", lambda *_, **__: machine.open())
    one = scene(SIDE, SIDE, 50)
    with Segmenter(machine.bundle, "tensorrt") as segmenter:
        assert segmenter.backend_name == "tensorrt"
        assert (segmenter.segment(one.optical, one.sar).label == one.classes).mean() > 0.8
    assert machine.driver.released
