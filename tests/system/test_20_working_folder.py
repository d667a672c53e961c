"""Temporaries of killed processes are swept by the next writer; nothing else ever is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from esccs_edge.system import working_folder as module
from esccs_edge.system.atomic import atomic_path, write_atomic
from esccs_edge.system.working_folder import remove_ownerless, working_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no file locks here")

KILLED = """
import os, signal, sys
from pathlib import Path
from esccs_edge.system.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_writer(target) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, target])
    assert died.returncode == -signal.SIGKILL


@pytest.mark.fault(61, 65, 68)
@pytest.mark.parametrize("moment_s", [0.0, 4e9], ids=["long ago", "in the future"])
def test_what_a_killed_process_left_is_gone_after_the_next_write(tmp_path, moment_s):
    killed_writer(tmp_path / "map.scores.tif")
    (leftover,) = tmp_path.iterdir()
    os.utime(leftover, (moment_s, moment_s))  # clocks jump; they say nothing about owners
    write_atomic(tmp_path / "other.json", "{}")
    assert os.listdir(tmp_path) == ["other.json"]


def test_folders_below_are_swept_where_asked(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    killed_writer(tmp_path / "checkpoints" / "last.ckpt")
    assert remove_ownerless(tmp_path) == []
    assert len(remove_ownerless(tmp_path, deep=True)) == 1
    assert os.listdir(tmp_path / "checkpoints") == []


def test_a_living_process_keeps_its_temporary(tmp_path):
    with working_folder(tmp_path / "map.tif") as folder:
        os.utime(folder, (0, 0))
        assert remove_ownerless(tmp_path) == []
        write_atomic(tmp_path / "other.tif", b"")
        assert folder.is_dir()
    assert os.listdir(tmp_path) == ["other.tif"]


@pytest.mark.parametrize(
    "name",
    [".map-2024.partial", "map.tif", ".map-0123456789abcdef.partial", "x-0123456789abcdef",
     ".map-0123456789ABCDEF.esccs-partial", ".map-0123456789abcdef.esccs-partial.old"],
)  # fmt: skip
def test_a_folder_of_the_user_is_never_touched(tmp_path, name):
    (tmp_path / name / "mine").mkdir(parents=True)
    write_atomic(tmp_path / "map.json", "{}")
    remove_ownerless(tmp_path, deep=True)
    assert (tmp_path / name / "mine").is_dir()


def test_neither_a_link_nor_a_file_of_such_a_name_is_followed_or_removed(tmp_path):
    victim = tmp_path / "victim"
    (victim / "mine").mkdir(parents=True)
    (tmp_path / ".a-0123456789abcdef.esccs-partial").symlink_to(victim)
    (tmp_path / ".b-0123456789abcdef.esccs-partial").write_text("mine")
    assert remove_ownerless(tmp_path) == []
    assert (victim / "mine").is_dir() and len(os.listdir(tmp_path)) == 3


def test_without_locks_nothing_is_swept(tmp_path, monkeypatch):
    killed_writer(tmp_path / "map.tif")
    monkeypatch.setattr(module, "HAS_LOCKS", False)
    write_atomic(tmp_path / "map.tif", b"")
    assert len(os.listdir(tmp_path)) == 2


def test_many_writers_and_sweepers_in_one_folder_never_lose_a_file(tmp_path):
    failed = []

    def write(number: int) -> None:
        try:
            for turn in range(40):
                write_atomic(tmp_path / f"{number}.json", str(turn))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        remove_ownerless(tmp_path)
    assert not failed
    assert {path.read_text() for path in tmp_path.iterdir()} == {"39"}


def test_the_longest_name_has_a_temporary_too(tmp_path):
    with atomic_path(tmp_path / ("ä" * 125 + ".tif")) as partial:
        assert partial.suffix == ".tif"
        partial.write_bytes(b"x")
    assert len(os.listdir(tmp_path)) == 1
