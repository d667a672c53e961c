"""What docs/hardware runs on a GPU, as far as it can be tried without one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from support.tiny import tiny_bundle
from support.trt_layer_list import LAYERS
from support.trt_machine import ENGINE_ATOL, Machine

from esccs_edge.cuda.probe import probe_driver
from esccs_edge.errors import BackendError

FOLDER = REPOSITORY / "docs" / "hardware"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the docs are not beside the tests")


def first_answer():
    spec = importlib.util.spec_from_file_location("first_answer", FOLDER / "first_answer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path)
    machine.flavor.trt.layers = LAYERS
    return machine


def test_first_answer_is_held_against_the_cpu(machine, monkeypatch, capsys):
    script = first_answer()
    bundle = tiny_bundle(machine.folder / "bundle")
    monkeypatch.setattr(script.Bundle, "open", lambda _: bundle)
    monkeypatch.setattr(script, "MODEL_FILES", {"fp32": bundle.manifest.model, "int8": "absent"})
    found = script.compare(bundle, "fp32", None, machine.folder / "engines")
    assert found["same class"] == found["of"] == script.PAIRS
    assert found["logits differ by"] < ENGINE_ATOL and found["gates differ by"] < ENGINE_ATOL
    assert found["layers"] == {"optical": 1, "sar": 1, "both": 2}
    assert found["graph_batches"] == [1, 8] and machine.driver.released
    machine.driver.released = False
    assert script.main(None) == 0 and capsys.readouterr().out.startswith("fp32 {")


def test_refusal_is_printed_in_its_own_words(machine, monkeypatch, capsys):
    script = first_answer()
    bundle = tiny_bundle(machine.folder / "bundle")
    monkeypatch.setattr(script.Bundle, "open", lambda _: bundle)
    monkeypatch.setattr(script, "MODEL_FILES", {"fp32": bundle.manifest.model})

    def refuse(*_, **__):
        raise BackendError("no kernel image for compute capability 9.0")

    monkeypatch.setattr(script, "TrtBackend", refuse)
    assert script.main("rtx") == 1
    assert "fp32 refused: no kernel image for compute capability 9.0" in capsys.readouterr().out


def run_script(*arguments):
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    return subprocess.run(
        ["bash", FOLDER / "run.sh", *arguments], env=environment, capture_output=True, text=True
    )


@pytest.mark.skipif(not probe_driver().problem, reason="this host has a GPU")
@pytest.mark.skipif(sys.platform != "linux", reason="a bash script")
def test_run_script_stops_before_it_writes_anything(tmp_path):
    done = run_script(tmp_path / "out", "first")
    assert done.returncode == 1 and "nothing to run: no CUDA driver" in done.stderr
    done = run_script(tmp_path / "out", "speed", "everything")
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


def test_steps_of_a_part_end_within_ten_minutes():
    script = (FOLDER / "run.sh").read_text()
    for part in ("first", "speed", "compare", "sanitize"):
        body = script.split(f"\n{part}() {{")[1].split("\n}")[0]
        seconds, times = 0, 1
        for line in body.splitlines():
            words = line.split()
            if words[:1] == ["for"]:
                times = len(line.split(" in ")[1].split(";")[0].split())
            elif words[:1] == ["done"]:
                times = 1
            elif words[:1] and words[0] in ("step", "bench"):
                limit = 60 + 90 if "ESCCS_SUSTAINED_S" in line else int(words[2])
                seconds += times * limit
        assert 0 < seconds <= 590, part
