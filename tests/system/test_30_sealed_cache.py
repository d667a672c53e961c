"""The cache hands out only what this user sealed here, under the key that is asked for."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esccs_edge.errors import ArtifactError, BackendError
from esccs_edge.system import sealed_cache
from esccs_edge.system.sealed_cache import SealedCache, default_folder, key_digest, seal, unseal

KEY = {"onnx": "ab" * 32, "gpu": "NVIDIA H200", "driver": "13.0", "batch": [1, 8, 64]}
SECRET = bytes(range(32))
posix = pytest.mark.skipif(os.name != "posix", reason="ownership and locks are POSIX here")


@pytest.fixture
def cache(tmp_path):
    return SealedCache(tmp_path / "engines")


class Builder:
    """Counts how often it was asked."""

    def __init__(self, content=b"plan"):
        self.content, self.calls = content, 0

    def __call__(self):
        self.calls += 1
        return self.content


def entry(cache, key=KEY):
    return cache.folder / f"{key_digest(key)}.engine"


def test_second_get_reads_what_the_first_built(cache):
    build = Builder(b"\x00plan" * 1000)
    assert cache.get(KEY, build) == cache.get(KEY, build) == build.content
    assert SealedCache(cache.folder).get(KEY, build) == build.content
    assert build.calls == 1


@pytest.mark.fault(60)
@pytest.mark.parametrize("field", KEY)
def test_any_change_of_the_key_is_another_entry(cache, field):
    cache.get(KEY, Builder())
    build = Builder(b"other")
    assert cache.get({**KEY, field: "changed"}, build) == b"other"
    assert cache.get(KEY, Builder(b"wrong")) == b"plan"


def test_order_of_the_key_does_not_matter(cache):
    cache.get(KEY, Builder())
    assert cache.load(dict(reversed(KEY.items()))) == b"plan"


@pytest.mark.fault(59)
@settings(max_examples=300)
@given(st.data())
def test_no_changed_byte_and_no_cut_gets_through(data):
    sealed = seal(KEY, b"native code " * 20, SECRET)
    at = data.draw(st.integers(0, len(sealed) - 1))
    if data.draw(st.booleans()):
        damaged = sealed[:at]
    else:
        bit = 1 << data.draw(st.integers(0, 7))
        damaged = sealed[:at] + bytes([sealed[at] ^ bit]) + sealed[at + 1 :]
    with pytest.raises(ArtifactError):
        unseal(damaged, KEY, SECRET)
    assert unseal(sealed, KEY, SECRET) == b"native code " * 20


def test_right_seal_under_another_key_is_refused():
    with pytest.raises(ArtifactError, match="another model, GPU"):
        unseal(seal({**KEY, "driver": "12.6"}, b"x", SECRET), KEY, SECRET)


def test_another_users_secret_is_refused():
    with pytest.raises(ArtifactError, match="made by someone else"):
        unseal(seal(KEY, b"x", SECRET[::-1]), KEY, SECRET)


@pytest.mark.fault(59)
@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "append"])
def test_damaged_entry_is_moved_aside_rebuilt_and_reported_once(cache, caplog, damage):
    cache.get(KEY, Builder(b"plan" * 100))
    path, content = entry(cache), entry(cache).read_bytes()
    path.write_bytes(
        {
            "truncate": content[:-1],
            "empty": b"",
            "flip": content[:60] + bytes([content[60] ^ 1]) + content[61:],
            "append": content + b"\0",
        }[damage]
    )
    build = Builder(b"fresh")
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY, build) == b"fresh"
        assert cache.get(KEY, build) == b"fresh"
    assert build.calls == 1
    assert len(caplog.records) == 1
    assert path.with_suffix(".rejected").exists()


def test_entry_copied_from_another_key_is_not_used(cache):
    cache.get(KEY, Builder(b"for H200"))
    other = {**KEY, "gpu": "Orin"}
    os.replace(entry(cache), entry(cache, other))
    assert cache.get(other, Builder(b"for Orin")) == b"for Orin"


@posix
def test_entry_that_is_a_link_is_not_followed(cache, tmp_path):
    cache.get(KEY, Builder(b"old"))
    elsewhere = tmp_path / "elsewhere"
    os.replace(entry(cache), elsewhere)
    entry(cache).symlink_to(elsewhere)
    assert cache.get(KEY, Builder(b"new")) == b"new"
    assert elsewhere.exists()


def test_engine_that_does_not_load_is_built_again(cache):
    cache.get(KEY, Builder(b"old"))
    cache.reject(KEY, "this GPU cannot run it")
    assert cache.get(KEY, Builder(b"new")) == b"new"


def test_damaged_secret_is_replaced_and_old_entries_are_distrusted(cache):
    cache.get(KEY, Builder(b"old"))
    (cache.folder / "secret.key").write_bytes(b"short")
    assert cache.get(KEY, Builder(b"new")) == b"new"
    assert cache.load(KEY) == b"new"


@posix
def test_folder_entries_and_secret_are_private(cache):
    cache.get(KEY, Builder())
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in cache.folder.iterdir()}
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}
    assert (cache.folder / "secret.key").stat().st_size == 32


@pytest.mark.fault(67)
@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755])
def test_folder_open_to_others_is_refused(tmp_path, mode):
    folder = tmp_path / "engines"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ArtifactError, match="expected 0700"):
        SealedCache(folder)


@pytest.mark.fault(67)
@posix
@pytest.mark.skipif(getattr(os, "geteuid", int)() != 0, reason="only root can give files away")
def test_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)
    with pytest.raises(ArtifactError, match="belongs to user 12345"):
        SealedCache(folder)


@posix
def test_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ArtifactError, match="not a folder of its own"):
        SealedCache(tmp_path / "link")


@pytest.mark.fault(63)
@pytest.mark.parametrize("call", ["open", "replace", "fsync"])
def test_full_or_read_only_disk_costs_the_cache_not_the_run(cache, caplog, monkeypatch, call):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    cache.load(KEY)
    monkeypatch.setattr(sealed_cache.os, call, fail)
    build = Builder()
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY, build) == cache.get(KEY, build) == b"plan"
    monkeypatch.undo()
    assert build.calls == 2
    assert [r.getMessage().count("cannot be used") for r in caplog.records] == [1]
    assert not list(cache.folder.glob("*.engine")) and not list(cache.folder.glob(".*"))


@pytest.mark.fault(63)
def test_folder_that_cannot_be_made_costs_the_cache_not_the_run(tmp_path):
    (tmp_path / "file").write_text("in the way")
    build = Builder()
    assert SealedCache(tmp_path / "file" / "engines").get(KEY, build) == b"plan"


@pytest.mark.fault(66)
def test_what_the_builder_raises_passes_through_and_keeps_nothing(cache):
    def fail():
        raise OSError("the builder's own trouble")

    with pytest.raises(OSError, match="own trouble"):
        cache.get(KEY, fail)
    build = Builder()
    assert cache.get(KEY, build) == cache.get(KEY, build)
    assert build.calls == 1


SLOW = """
import sys, time
from pathlib import Path
from esccs_edge.system.sealed_cache import SealedCache
def build():
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    time.sleep(0.5)
    return b"plan"
assert SealedCache(Path(sys.argv[1])).get({"key": 1}, build) == b"plan"
"""


@pytest.mark.fault(64)
@posix
def test_of_many_processes_one_builds_and_the_others_wait(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", SLOW, tmp_path / "engines", log]
    crew = [subprocess.Popen(command, cwd=tmp_path) for _ in range(4)]
    assert [process.wait(30) for process in crew] == [0] * 4
    assert log.read_text() == "built\n"


@pytest.mark.fault(64)
@posix
def test_waiting_for_another_builder_ends_with_an_error(tmp_path):
    cache = SealedCache(tmp_path / "engines")
    impatient = SealedCache(tmp_path / "engines", lock_timeout_s=0.1)

    def build():
        with pytest.raises(BackendError, match="another process has been building"):
            impatient.get(KEY, Builder())
        return b"plan"

    assert cache.get(KEY, build) == b"plan"


KILLED = """
import os, signal, sys
from pathlib import Path
from esccs_edge.system import atomic
from esccs_edge.system.sealed_cache import SealedCache
cache = SealedCache(Path(sys.argv[1]))
cache.get({"first": 1}, lambda: b"whole")
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(atomic.os, sys.argv[2], die)
cache.get({"second": 2}, lambda: b"x" * 1000)
"""


@pytest.mark.fault(61)
@posix
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_killed_writer_leaves_no_half_entry_and_its_temporary_is_swept(tmp_path, call):
    folder = tmp_path / "engines"
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, call], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(folder.glob(".*partial*"))) == 1

    cache = SealedCache(folder)  # sweeps; the lock died with its holder
    assert not list(folder.glob(".*partial*"))
    assert cache.load({"first": 1}) == b"whole"
    assert cache.load({"second": 2}) is None


@pytest.mark.fault(96)
@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"ESCCS_CACHE_DIR": "/a/b"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/esccs-edge/engines"),
        ({"HOME": "/h"}, "/h/.cache/esccs-edge/engines"),
    ],
)
@posix
def test_folder_follows_the_environment(monkeypatch, environment, expected):
    for name in ("ESCCS_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(default_folder()) == expected


@settings(max_examples=50)
@given(st.binary(max_size=2000), st.dictionaries(st.text(), st.integers() | st.text(), max_size=5))
def test_any_content_and_key_survive_the_seal(content, key):
    assert unseal(seal(key, content, SECRET), key, SECRET) == content


@posix
def test_a_secret_that_is_a_pipe_or_open_to_others_is_made_anew_without_waiting(tmp_path):
    cache = SealedCache(tmp_path / "engines")
    cache.store(KEY, b"plan")
    (cache.folder / "secret.key").unlink()
    os.mkfifo(cache.folder / "secret.key")
    assert cache.get(KEY, Builder(b"anew")) == b"anew"
    (cache.folder / "secret.key").chmod(0o640)
    assert cache.get(KEY, Builder(b"again")) == b"again"


@posix
def test_no_folder_above_is_made_for_others_to_write(tmp_path):
    before = os.umask(0)
    try:
        SealedCache(tmp_path / "a" / "b" / "engines")
    finally:
        os.umask(before)
    for made in ("a", "a/b", "a/b/engines"):
        assert stat.S_IMODE((tmp_path / made).stat().st_mode) == 0o700
