"""An update of a bundle is there as a whole or not at all, wherever its process dies."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from support import tiny
from support.killing import killed_at

from esccs_edge.contracts import bundle_update
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MANIFEST, MLM
from esccs_edge.errors import ArtifactError
from esccs_edge.system import atomic
from esccs_edge.system.file_lock import folder_lock

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
OLD, NEW = b"old" * 1000, b"new" * 2000


@pytest.fixture
def calibrated(bundle) -> Bundle:
    return bundle.add(
        {"student.int8.onnx": OLD, "calibration.json": OLD[:30]}, quantization={"kind": "old"}
    )


def calibrate(folder, content: bytes = NEW) -> Bundle:
    """What a calibration in place ends with: files replaced, one added, one dropped."""
    kind = content[:3].decode()
    return Bundle.open(folder).add(
        {"student.int8.onnx": content, "pairs.csv": content},
        without=["calibration.json"],
        quantization={"kind": kind},
    )


def state_of(folder) -> str:
    """Open and verify the bundle; return which of the two it is. All files must be of one."""
    opened = Bundle.open(folder)
    kind = opened.manifest.quantization["kind"]
    assert opened.read("student.int8.onnx") == {"old": OLD, "new": NEW}[kind]
    assert ("pairs.csv" in opened.manifest.files) == (kind == "new")
    assert set(opened.verify()) == set(opened.manifest.files)
    return kind


def leftovers(folder) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.fault(61)
def test_a_kill_at_every_change_leaves_the_old_bundle_or_the_new_one(calibrated):
    folder = calibrated.folder
    seen = []
    while killed_at(len(seen), folder, lambda: calibrate(folder)):
        held_over = Bundle(folder, calibrated.manifest)
        seen.append(state_of(folder))
        assert leftovers(folder) == []  # opened once, swept
        if seen[-1] == "new":
            with pytest.raises(ArtifactError, match="changed by another process"):
                held_over.read("student.int8.onnx")
            calibrate(folder, OLD).add({"calibration.json": OLD[:30]}, without=["pairs.csv"])
        assert state_of(folder) == "old"
    assert len(seen) > 20 and set(seen) == {"old", "new"}
    assert seen == sorted(seen, reverse=True)  # one step decides
    assert state_of(folder) == "new"


@pytest.mark.fault(61)
def test_kills_at_random_moments_leave_a_whole_bundle(calibrated):
    folder, dice = calibrated.folder, random.Random(5)
    kills = 0
    for content in [NEW, OLD] * 12:
        child = os.fork()
        if child == 0:
            try:
                calibrate(folder, content)
            finally:
                os._exit(0)
        time.sleep(dice.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
        Bundle.open(folder).verify()
        assert leftovers(folder) == []
    assert kills > 0


def test_a_reader_that_may_not_write_reads_what_a_kill_left(calibrated, monkeypatch):
    """A bundle on a disk that became read-only in the middle is as good as any."""
    folder = calibrated.folder
    monkeypatch.setattr("esccs_edge.contracts.bundle.settle", lambda *_: None)
    number, kinds = 0, set()
    while killed_at(number, folder, lambda: calibrate(folder)):
        kinds.add(state_of(folder))
        number += 1
    assert kinds == {"old", "new"}


@pytest.mark.fault(61, 63)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_system_call_leaves_the_old_bundle_or_the_new_one(calibrated, monkeypatch, call):
    folder, real = calibrated.folder, getattr(os, call)
    failing = 0
    while True:
        left = [failing]

        def fail(*arguments, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, call, fail)
            try:
                calibrate(folder)
                break
            except OSError:
                pass
        state_of(folder)
        assert leftovers(folder) == []
        Bundle.open(folder).add(
            {"student.int8.onnx": OLD, "calibration.json": OLD[:30]},
            without=["pairs.csv"], quantization={"kind": "old"},
        )  # fmt: skip
        failing += 1
    assert failing >= 5 and state_of(folder) == "new"


def test_creating_a_bundle_over_another_is_all_or_nothing(calibrated, tmp_path):
    other = tiny.tiny_bundle(tmp_path / "other", patch_size=32)
    folder, number, sizes = calibrated.folder, 0, []
    while killed_at(number, folder, lambda: other.copy(folder)):
        opened = Bundle.open(folder)
        opened.verify()
        sizes.append(opened.manifest.sample.height)
        number += 1
    assert sizes == sorted(sizes) and set(sizes) == {16, 32}


def test_two_updates_of_one_bundle_do_not_lose_each_other(calibrated):
    first, second = Bundle.open(calibrated.folder), Bundle.open(calibrated.folder)
    first.add({"first.txt": b"1"})
    with pytest.raises(ArtifactError, match="changed by another process.*Open it again"):
        second.add({"second.txt": b"2"})
    assert "first.txt" in Bundle.open(calibrated.folder).verify()


def test_an_update_waits_for_another_one(calibrated, monkeypatch):
    monkeypatch.setattr(bundle_update, "LOCK_TIMEOUT_S", 0.1)
    with folder_lock(calibrated.folder) as held:
        assert held
        with pytest.raises(ArtifactError, match="another process has been updating"):
            calibrated.add({"late.txt": b""})
        assert Bundle.open(calibrated.folder).verify()  # reading needs no lock
    calibrated.add({"late.txt": b""})


def test_the_item_for_catalogs_is_vouched_for_too(bundle):
    assert MLM in bundle.manifest.files
    path = bundle.folder / MLM
    path.write_bytes(path.read_bytes().replace(b"tiny", b"TINY"))
    with pytest.raises(ArtifactError, match=r"mlm.json has sha256"):
        bundle.verify()
    with pytest.raises(ArtifactError, match="written by the bundle itself"):
        bundle.add({MLM: b"{}"})


def test_a_waiting_content_that_was_altered_is_refused(calibrated):
    record = calibrated.manifest.files["student.int8.onnx"]
    (calibrated.folder / "student.int8.onnx").write_bytes(b"x" * record.bytes)
    waiting = calibrated.folder / f".student.int8.onnx.{record.sha256}.next"
    waiting.write_bytes(b"y" * record.bytes)
    with pytest.raises(ArtifactError, match="sha256"):
        calibrated.read("student.int8.onnx")
    assert (calibrated.folder / MANIFEST).is_file()


def test_who_reads_while_it_is_updated_gets_one_whole_bundle(calibrated):
    """Opened before the update and read after it, it is refused in words and can be opened anew."""
    folder = calibrated.folder
    child = os.fork()
    if child == 0:
        try:
            for turn in range(60):
                calibrate(folder, NEW if turn % 2 == 0 else OLD)
            os._exit(0)
        finally:
            os._exit(1)
    read = 0
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        try:
            opened = Bundle.open(folder)
            assert (
                opened.read("student.int8.onnx")[:3].decode()
                == (opened.manifest.quantization["kind"])
            )
            read += 1
        except ArtifactError as error:
            assert "changed by another process since it was opened" in error.message
    assert os.waitstatus_to_exitcode(ended[1]) == 0 and read > 10
    Bundle.open(folder).verify()
