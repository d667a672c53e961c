"""What docs/hardware runs on a GPU, as far as it can be tried without one."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from support import fake_libcuda
from support.onnx_answer import onnx_answer
from support.trt_machine import host_pairs

from esccs_edge.backends.base import LaneOutput
from esccs_edge.backends.trt.pixel_kernels import fatbin_path
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.cuda.probe import probe_driver

FOLDER, TESTS = REPOSITORY / "docs" / "hardware", REPOSITORY / "tests"
PATHS = os.environ.get("PYTHONPATH", "").split(os.pathsep)
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the docs are not beside the tests")


def script(program: str, *arguments: str, **variables: str):
    """Run a program beside the scripts; it finds tests as `run.sh` lets it."""
    paths = [str(FOLDER), str(TESTS), *PATHS]
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True,
    )  # fmt: skip


SHORTLY = """
import sys
sys.modules["openvino"] = None  # the machine that has a GPU need not have it
import first_answer
first_answer.BATCHES, first_answer.SECONDS = (1, 3, 8), 0.1
sys.exit(first_answer.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("more", [[], ["--mapped"]])
def test_stand_in_answers_right_over_a_fake_driver(tmp_path, more):
    """Everything of the proof but the GPU: real binding, graphs, kernels and model, no OpenVINO."""
    pytest.importorskip("torch")
    environment = fake_libcuda.environment(tmp_path, "cuda-python")
    found = script(SHORTLY, "stand-in", "fp32", *more, **environment)
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    assert answer["right"] and answer["same class"] == answer["of"] == 4 * 2 * (1 + 3 + 8)
    assert answer["differs by"] < 1e-5 and answer["copies"] is not bool(more)
    assert answer["graph_batches"] == [1, 2, 4, 8, 16, 32] and "stand-in" in answer["tensorrt"]


def test_samples_of_the_proof_tell_rows_apart():
    """A lane that mixes up its rows would else answer as well."""
    pytest.importorskip("onnxruntime")
    shipped = Bundle.open()
    answer = onnx_answer(shipped, first_answer().mixed_samples(shipped.manifest, 4))
    for name in ("logits", "gate"):
        rows = answer.outputs[name]
        apart = [np.abs(a - b).max() for a, b in itertools.combinations(rows, 2)]
        assert min(apart) > 20 * first_answer().TOLERANCE["fp32"]


def test_wrong_answer_is_found(monkeypatch, tmp_path, bundle):
    """By the comparison that the script makes."""
    module = first_answer()
    wanted = onnx_answer(bundle, host_pairs(bundle.manifest, 2))
    wrong = {name: values + (name == "gate") * 0.01 for name, values in wanted.outputs.items()}
    assert module.largest(wanted, wanted) == 0
    assert module.largest(LaneOutput(wrong, wanted.stats), wanted) > module.TOLERANCE["fp32"]


@pytest.mark.skipif(not probe_driver().problem, reason="this host has a GPU")
@pytest.mark.parametrize("engine", ["tensorrt", "rtx", "stand-in"])
def test_refusal_is_printed_in_its_own_words(engine):
    found = script(SHORTLY, engine, "fp16")
    answer = json.loads(found.stdout)
    assert found.returncode == 1 and answer["engine"] == engine
    assert any(word in answer["refused"] for word in ("no CUDA driver", "not installed", "needs"))


def first_answer():
    spec = importlib.util.spec_from_file_location("first_answer", FOLDER / "first_answer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_gpu_tests_pass_over_a_fake_driver(tmp_path):
    """So that the first real GPU does not find mistakes of the tests themselves."""
    pytest.importorskip("torch")
    if not fatbin_path().is_file():
        pytest.skip("the package was built without nvcc")
    files = ["cuda/test_30_owners.py", "backends/trt/test_30_pixel_kernels.py",
             "backends/trt/test_30_backend.py"]  # fmt: skip
    words = ["-m", "pytest", "-m", "gpu", "-q", "-W", "default", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *words, *(TESTS / file for file in files)],
        env={**fake_libcuda.environment(tmp_path, "cuda-python"), "ESCCS_GPU_ENGINE": "stand-in",
             "PYTHONPATH": os.pathsep.join(PATHS)},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout + done.stderr


def run_script(*arguments):
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable,
                   "PYTHONPATH": os.pathsep.join(PATHS)}  # fmt: skip
    return subprocess.run(
        ["bash", FOLDER / "run.sh", *arguments], env=environment, capture_output=True, text=True
    )


@pytest.mark.skipif(not probe_driver().problem, reason="this host has a GPU")
@pytest.mark.skipif(sys.platform != "linux", reason="a bash script")
@pytest.mark.parametrize("part", ["proof", "first", "speed", "compare", "sanitize"])
def test_run_script_stops_before_it_writes_anything(tmp_path, part):
    done = run_script(tmp_path / "out", part)
    assert done.returncode == 1
    words = ("nothing to run: no CUDA driver", "nothing to run: this Python lacks")
    assert done.stderr.startswith(words), done.stderr
    done = run_script(tmp_path / "out", part, "everything")
    assert done.returncode == 2 and "unknown part 'everything'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_parts_select_every_benchmark_once():
    """The `-k` words of the script against the names of the tests."""
    script = (FOLDER / "run.sh").read_text()
    source = (REPOSITORY / "tests" / "benchmarks" / "test_gpu_speed.py").read_text()
    names = [line[4:].split("(")[0] for line in source.splitlines() if line.startswith("def test_")]
    words = [line.rsplit('"', 2)[1].split(" or ") for line in script.splitlines()
             if line.strip().startswith("bench ") and "{" not in line]  # fmt: skip
    chosen = {name: sum(any(word in name for word in part) for part in words) for name in names}
    assert len(words) == 4 and set(chosen.values()) == {1}, chosen


def seconds_of(script: str, name: str) -> int:
    """Sum of the limits of a function's steps, those of the functions that it calls included."""
    body = script.split(f"\n{name}() {{")[1].split("\n}")[0]
    seconds, times = 0, 1
    for line in body.splitlines():
        words = line.split()
        if words[:1] == ["for"]:
            times = len(line.split(" in ")[1].split(";")[0].split())
        elif words[:1] == ["done"]:
            times = 1
        elif words[:1] and words[0] in ("step", "tests", "bench"):
            seconds += times * int(words[2])
        elif words[:1] == ["engine"]:
            seconds += seconds_of(script, "engine")
    return seconds


@pytest.mark.parametrize("part", ["proof", "first", "speed", "compare", "sanitize"])
def test_steps_of_a_part_end_within_eight_minutes(part):
    assert 0 < seconds_of((FOLDER / "run.sh").read_text(), part) <= 480
