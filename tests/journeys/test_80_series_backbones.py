"""Networks of series that no journey trains: exported, held against torch, run, and compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.cli_parts import run_json
from support.small_series import series_manifest

from esccs_edge import Bundle

torch = pytest.importorskip("torch", reason="export needs torch")
from safetensors.torch import save  # noqa: E402

from esccs_edge.training.learning.tasks import learning_task  # noqa: E402

ATTENTION = {
    "temporal": "attention", "width": 16, "features": 24, "heads": 4, "dropout": 0.2,
    "reconstruct": True, "couple": True,
}  # fmt: skip
MANIFESTS = {
    "attention": series_manifest(architecture=ATTENTION),
    "radar alone": series_manifest(sensors=("sar",), architecture=ATTENTION),
    "utae": series_manifest(
        4, size=16, sensors=("optical",), architecture={"backbone": "utae"}
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=MANIFESTS)
def exported(request, tmp_path_factory) -> Bundle:
    manifest = MANIFESTS[request.param]
    torch.manual_seed(0)
    net = learning_task(manifest.task).network(manifest)
    folder = tmp_path_factory.mktemp("backbone") / "bundle"
    Bundle.create(folder, manifest, {"student.safetensors": save(net.state_dict())})
    run_json("export", folder)
    return Bundle.open(folder)


@pytest.mark.parametrize("limit", ["AVX2", "ALL"])
def test_its_graph_and_the_cpu_answer_like_torch_with_dates_missing(exported, limit):
    """The reference has rows that are whole, in part, alone, and absent.

    In a process of its own: OpenVINO 2026.4 ends the process at a norm where it is held to AVX2, if
    the backend leaves the norm to it.
    """
    words = [sys.executable, "-m", "esccs_edge", "verify", exported.folder, "--json"]
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit}
    done = subprocess.run(words, capture_output=True, text=True, timeout=250, env=env)
    assert done.returncode == 0, done.stderr
    found = json.dumps(json.loads(done.stdout))
    assert "student.onnx" in found and "backend cpu" in found


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_it_compiles_without_a_gpu(exported, precision, tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings")
    words = ("--flavor", "rtx", "--precision", precision, "--out", tmp_path / "student.plan")
    assert run_json("build", exported.folder, *words)["bytes"] > 0
