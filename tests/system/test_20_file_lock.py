"""The lock that the cache and working folders share."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from esccs_edge.system import file_lock as module
from esccs_edge.system.file_lock import file_lock
from esccs_edge.system.packages import installed_version

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks are POSIX")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_has_one_holder_at_a_time(tmp_path, kind):
    path = tmp_path / "lock"
    if kind == "folder":
        path.mkdir()
    with file_lock(path) as first, file_lock(path) as second:
        assert (first, second) == (True, False)
    with file_lock(path) as again:
        assert again


@pytest.mark.fault(65)
def test_waiting_ends_when_time_runs_out_or_the_holder_dies(tmp_path):
    path = tmp_path / "lock"
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from esccs_edge.system.file_lock import file_lock\n"
        "with file_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        started_s = time.monotonic()
        with file_lock(path, timeout_s=0.2) as held:
            assert not held and time.monotonic() - started_s >= 0.2
    finally:
        holder.kill()
        holder.communicate()
    with file_lock(path, timeout_s=20) as held:
        assert held


def test_a_link_is_not_followed_to_a_file(tmp_path):
    (tmp_path / "other").touch()
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError), file_lock(tmp_path / "lock"):
        pass


def test_without_locks_every_lock_is_granted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HAS_LOCKS", False)
    with file_lock(tmp_path) as held, file_lock(tmp_path) as again:
        assert held and again


def test_versions_are_looked_up_without_an_import():
    assert installed_version("numpy") == __import__("numpy").__version__
    assert installed_version("no-such-distribution") is None
