"""What a power cut finds: every name leads to data that was on the disk before it.

A disk keeps what was synced and may lose the rest, in any order. So each file has to be synced as
it is when it gets its final name, and the folder after its last name; the calls are watched.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.mapping_parts import MANIFEST, FakeClassifier
from support.rasters import random_scene, write_raster
from support.tiny import tiny_bundle

from esccs_edge.scenes.mapping import classify_scene
from esccs_edge.system.atomic import write_atomic
from esccs_edge.system.sealed_cache import SealedCache

pytestmark = pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX")


class Disk:
    """Watches the calls that sync, name and rename.

    Attributes:
        unsynced: Names that a file got before its data was on the disk.
        names_at_risk: Folders that got a name since they were synced.
        renames: Number of names given.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unsynced: list[Path] = []
        self.names_at_risk: set[Path] = set()
        self.renames = 0
        self._synced: set[tuple[int, int, int]] = set()
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)
        for call in ("replace", "rename", "link"):
            monkeypatch.setattr(os, call, self._naming(getattr(os, call)))

    def _sync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self._synced.add(state(os.stat(descriptor)))
        self.names_at_risk.discard(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    def _naming(self, call):
        def named(source, target, **options):
            if state(os.stat(source)) not in self._synced:
                self.unsynced.append(Path(target))
            call(source, target, **options)
            self.names_at_risk.add(Path(target).resolve().parent)
            self.renames += 1

        return named


def state(status: os.stat_result) -> tuple[int, int, int]:
    """Which file it is, and as of when; its number of links and names may change."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def a_file(folder: Path) -> None:
    write_atomic(folder / "a.txt", "new")


def a_bundle(folder: Path) -> None:
    bundle = tiny_bundle(folder / "bundle")
    bundle.add({"student.onnx": bundle.read("student.onnx") + b"", "choice.json": b"{}"})


def a_kept_engine(folder: Path) -> None:
    SealedCache(folder / "engines").get({"gpu": "one"}, lambda: b"plan")


def a_map(folder: Path) -> None:
    optical, sar = random_scene(MANIFEST, 37, 29)
    write_raster(folder / "o.tif", optical)
    write_raster(folder / "s.tif", sar)
    classify_scene(FakeClassifier(), folder / "o.tif", folder / "s.tif", folder / "m.tif")


@pytest.mark.fault(62)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are looked up in /proc")
@pytest.mark.parametrize("writer", [a_file, a_bundle, a_kept_engine, a_map])
def test_data_is_on_the_disk_before_its_name(tmp_path, monkeypatch, writer):
    disk = Disk(monkeypatch)
    writer(tmp_path)
    assert disk.renames and not disk.unsynced
    assert not disk.names_at_risk


def test_a_writer_that_does_not_sync_would_be_seen(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    (tmp_path / "partial").write_text("new")
    os.replace(tmp_path / "partial", tmp_path / "a.txt")
    assert disk.unsynced == [tmp_path / "a.txt"] and disk.names_at_risk == {tmp_path.resolve()}
