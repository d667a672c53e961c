"""A task that the package does not know, from data to an answer: train, export, calibrate, run."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

from support.toy_learning import write_toy_data  # noqa: E402
from support.toy_task import ToyMapping  # noqa: E402

from esccs_edge.backends.cpu.backend import CpuBackend  # noqa: E402
from esccs_edge.calibration.quantize import quantize_student  # noqa: E402
from esccs_edge.contracts.bundle import Bundle  # noqa: E402
from esccs_edge.export.parity import check_parity  # noqa: E402
from esccs_edge.export.to_onnx import export_student  # noqa: E402
from esccs_edge.runtime.model import ModelRuntime  # noqa: E402
from esccs_edge.training.options_file import options_from  # noqa: E402
from esccs_edge.training.run import train  # noqa: E402


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("toy")
    data = write_toy_data(folder / "toy.npz", count=96)
    given = {"task": ToyMapping.name, "data": str(data), "out": str(folder / "run"), "threads": 1}
    bundle = export_student(train(options_from(given)))
    return quantize_student(bundle, folder / "run" / "heldout" / "index.csv")


def test_every_form_of_the_bundle_answers_like_the_trained_network(calibrated):
    backend = CpuBackend(calibrated, calibrated.manifest, max_batch=4)
    report = check_parity(calibrated, backend)
    backend.close()
    names = [row.name for row in report.rows]
    assert names == ["student.int8.onnx", "student.onnx", "backend cpu"]
    assert all(row.label_agreement > 0.95 for row in report.rows)


def test_the_int8_bundle_finds_water_and_land_in_each_pixel(calibrated):
    report = json.loads(calibrated.read("calibration.json"))
    assert report["int8"]["overall"]["balanced_accuracy"] > 0.95
    image = np.full((1, 16, 16), -8, np.float32)
    image[..., 8:] = -20
    image += np.random.default_rng(0).normal(0, 1, image.shape).astype(np.float32)
    backend = CpuBackend(calibrated, calibrated.manifest, max_batch=4)
    model = ModelRuntime(backend, calibrated.manifest, bundle=calibrated.identity)
    labels = model.run({"radar": image}).labels
    model.close()
    right = labels == np.where(np.arange(16) < 8, 0, 1)
    assert right[:, [*range(7), *range(9, 16)]].mean() > 0.95


def test_tensorrt_rtx_builds_the_calibrated_graph(calibrated, tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings", reason="the TensorRT-RTX wheels are x86-64 only")
    from esccs_edge.export.to_engine import build_engine

    report = build_engine(calibrated, flavor="rtx", precision="int8", out=tmp_path)
    assert report.path.stat().st_size == report.bytes > 1_000
