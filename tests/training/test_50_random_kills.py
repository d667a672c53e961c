"""Training, export and calibration that are killed at any moment go on to the same bundle."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from support.learning_work import export_and_calibrate, train_on
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.contracts.bundle import Bundle

#: Kills of each test, in the suite and in whole loops.
KILLS, WHOLE_KILLS = 1, 100

pytestmark = [
    pytest.mark.timeout(7200),
    pytest.mark.skipif(
        "forkserver" not in multiprocessing.get_all_start_methods(),
        reason="this system has no process that forks others",
    ),
]


@pytest.fixture(scope="module")
def processes():
    """A process that has read torch and begun no thread forks each of these."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.learning_work"])
    return context


def whole_run(processes, target, *arguments) -> float:
    """Run to the end; return the seconds that it took."""
    began_s = time.monotonic()
    process = processes.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began_s


def is_killed(processes, after_s: float, target, *arguments) -> bool:
    process = processes.Process(target=target, args=arguments)
    process.start()
    process.join(after_s)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def test_training_goes_on_to_the_same_weights(tmp_path, processes, whole):
    data = tiny_index(tmp_path / "data")
    dice = random.Random(0)

    def document(name: str) -> dict:
        return tiny_document(data, tmp_path / name)

    whole_run(processes, train_on, document("first"))
    longest_s = whole_run(processes, train_on, document("right"))
    expected = what_was_learned(tmp_path / "right")
    died = 0
    while died < (WHOLE_KILLS if whole else KILLS):
        died += is_killed(processes, dice.uniform(0, longest_s), train_on, document("run"))
        whole_run(processes, train_on, document("run"))
        assert what_was_learned(tmp_path / "run") == expected
        assert not list((tmp_path / "run").rglob("*.esccs-partial"))
        shutil.rmtree(tmp_path / "run")


def what_was_learned(folder: Path) -> tuple[bytes, bytes]:
    bundle = Bundle.open(folder / "bundle")
    bundle.verify()
    return bundle.read("student.safetensors"), (folder / "metrics.json").read_bytes()


def test_export_and_calibration_leave_a_whole_bundle_and_end_in_the_same(
    tmp_path, processes, whole
):
    data, run = tiny_index(tmp_path / "data"), tmp_path / "run"
    whole_run(processes, train_on, tiny_document(data, run))
    shutil.copytree(run / "bundle", tmp_path / "right")
    index = run / "heldout" / "index.csv"
    longest_s = whole_run(processes, export_and_calibrate, tmp_path / "right", index)
    expected, dice, died = Bundle.open(tmp_path / "right").manifest.files, random.Random(0), 0
    while died < (WHOLE_KILLS if whole else KILLS):
        shutil.copytree(run / "bundle", tmp_path / "bundle")
        work = (export_and_calibrate, tmp_path / "bundle", index)
        died += is_killed(processes, dice.uniform(0, longest_s), *work)
        Bundle.open(tmp_path / "bundle").verify()
        whole_run(processes, *work)
        found = Bundle.open(tmp_path / "bundle")
        found.verify()
        for name in ("student.onnx", "student.int8.onnx", "reference.npz"):
            assert found.manifest.files[name] == expected[name]
        assert not list((tmp_path / "bundle").rglob("*.esccs-partial"))
        shutil.rmtree(tmp_path / "bundle")
