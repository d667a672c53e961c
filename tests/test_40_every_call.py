"""What every writer leaves when the system denies it any one call, or it dies there.

Sampled here; ``pytest --whole-loops`` goes through every call, and kills at 2,000 moments.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from support.killing import denied_at, killed_after, killed_at
from support.mapping_parts import MANIFEST, FakeClassifier
from support.rasters import random_scene, write_raster
from support.tiny import tiny_bundle

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.rasters.products.stacking import stack_products
from esccs_edge.scenes.mapping import classify_scene
from esccs_edge.system.atomic import write_atomic
from esccs_edge.system.sealed_cache import SealedCache

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
#: Calls that are tried in the suite, spread over all; the first and the last are among them.
SAMPLES = 4
#: Kills at random moments, of all writers together.
KILLS, WHOLE_KILLS = 28, 2000
#: What the system may say.
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)


COPY = rasterio.shutil.copy


def _copied_by_one_thread(*paths, **options):
    COPY(*paths, **{**options, "num_threads": 1})


class Writer:
    """Something that is written over an older one."""

    def prepare(self, folder: Path) -> None:
        """Lay out the inputs and the older result."""

    def write(self, folder: Path) -> None:
        """Write the new result."""

    def found(self, folder: Path) -> str:
        """Return ``"old"`` or ``"new"``; fails where it is neither."""
        raise NotImplementedError


class File(Writer):
    def prepare(self, folder):
        (folder / "a.txt").write_text("old")

    def write(self, folder):
        write_atomic(folder / "a.txt", "new")

    def found(self, folder):
        text = (folder / "a.txt").read_text()
        assert text in ("old", "new")
        return text


class BundleUpdate(Writer):
    def prepare(self, folder):
        tiny_bundle(folder / "bundle").add({"choice.json": b"old"})

    def write(self, folder):
        Bundle.open(folder / "bundle").add({"choice.json": b"new", "more.json": b"{}"})

    def found(self, folder):
        bundle = Bundle.open(folder / "bundle")
        bundle.verify()
        text = bundle.read("choice.json").decode()
        assert ("more.json" in bundle.manifest.files) == (text == "new")
        return text


class BundleCopy(BundleUpdate):
    def prepare(self, folder):
        source = tiny_bundle(folder / "source")
        source.add({"choice.json": b"old"}).copy(folder / "bundle")
        Bundle.open(folder / "source").add({"choice.json": b"new", "more.json": b"{}"})

    def write(self, folder):
        Bundle.open(folder / "source").copy(folder / "bundle")


class Map(Writer):
    """A map and its scores, which carry a common mark."""

    options: dict[str, str] = {}

    def prepare(self, folder):
        for name, seed in (("old", 1), ("new", 2)):
            optical, sar = random_scene(MANIFEST, 20, 17, seed)
            write_raster(folder / f"{name}-o.tif", optical)
            write_raster(folder / f"{name}-s.tif", sar)
            self._map(folder, name, folder / f"{name}-m.tif")
        self._map(folder, "old", folder / "m.tif")

    def write(self, folder):
        self._map(folder, "new", folder / "m.tif")

    def _map(self, folder, name, out):
        # Threads of GDAL that another test of this process began are not there in a forked child.
        with patch.object(rasterio.shutil, "copy", _copied_by_one_thread):
            self._map_alone(folder, name, out)

    def _map_alone(self, folder, name, out):
        classify_scene(FakeClassifier(), folder / f"{name}-o.tif", folder / f"{name}-s.tif", out,
                       overwrite=True, **self.options)  # fmt: skip

    def found(self, folder):
        for name in ("old", "new"):
            if (folder / "m.tif").read_bytes() == (folder / f"{name}-m.tif").read_bytes():
                return name
        raise AssertionError("the map is neither the old nor the new one")


class ResumedMap(Map):
    options = {"resume": "fake"}


class Stack(Writer):
    def prepare(self, folder):
        for name, seed in (("old", 1), ("new", 2)):
            optical, sar = random_scene(MANIFEST, 20, 20, seed)
            write_raster(folder / f"{name}-o.tif", optical)
            write_raster(folder / f"{name}-s.tif", sar)
        self._stack(folder, "old")

    def write(self, folder):
        self._stack(folder, "new")

    def _stack(self, folder, name):
        paths = {"optical": folder / f"{name}-o.tif", "sar": folder / f"{name}-s.tif"}
        stack_products(paths, MANIFEST, folder / "pair", overwrite=True)

    def found(self, folder):
        from esccs_edge.rasters.reader import read_patch

        spec = MANIFEST.modalities["optical"]
        pixels = read_patch(folder / "pair" / "optical.tif", spec)
        for name in ("old", "new"):
            if np.array_equal(pixels, read_patch(folder / f"{name}-o.tif", spec)):
                return name
        raise AssertionError("the stack is neither the old nor the new one")


class Engine(Writer):
    """An entry of the cache; where it cannot be kept, the run goes on without."""

    def prepare(self, folder):
        SealedCache(folder / "engines").get({"gpu": "one"}, lambda: b"old")

    def write(self, folder):
        assert SealedCache(folder / "engines").get({"gpu": "two"}, lambda: b"new") == b"new"

    def found(self, folder):
        cache = SealedCache(folder / "engines")
        assert cache.get({"gpu": "one"}, lambda: b"again") in (b"old", b"again")
        return cache.get({"gpu": "two"}, lambda: b"new").decode()


WRITERS = [File, BundleUpdate, BundleCopy, Map, ResumedMap, Stack, Engine]


def each_call(tmp_path: Path, writer: Writer, whole: bool, one: Callable[[int, Path], bool]) -> int:
    """Try calls one after the other, each on a fresh copy; return how many there are."""
    ready = tmp_path / "ready"
    ready.mkdir()
    apart(lambda: writer.prepare(ready))

    def is_reached(number: int) -> bool:
        folder = tmp_path / f"{number}"
        shutil.copytree(ready, folder, symlinks=True)
        try:
            return one(number, folder)
        finally:
            shutil.rmtree(folder)

    if whole:
        number = 0
        while is_reached(number):
            number += 1
        return number
    count = 1
    while is_reached(count):  # twice as far each time, then back to the last one
        count *= 2
    known, beyond = count // 2, count
    while beyond - known > 1:
        middle = (known + beyond) // 2
        known, beyond = (middle, beyond) if is_reached(middle) else (known, middle)
    for number in {0, *(known * i // SAMPLES for i in range(SAMPLES))}:
        assert is_reached(number)
    return beyond


def apart(action: Callable[[], object]) -> None:
    """Run an action in a child of its own: threads of GDAL in this process would not be forked."""
    was_denied, said = denied_at(1 << 30, Path("/"), action, errno.EIO)
    assert not was_denied and not said, said


def require_whole(writer: Writer, folder: Path) -> str:
    """Return what stands there; then write once more, after which no temporary may be left."""

    def look() -> None:
        (folder / "found.txt").write_text(writer.found(folder))
        writer.write(folder)
        assert writer.found(folder) == "new"
        assert not list(folder.rglob("*.esccs-partial"))

    apart(look)
    return (folder / "found.txt").read_text()


@pytest.mark.fault(46, 61, 63)
@pytest.mark.parametrize("writer", WRITERS, ids=[writer.__name__ for writer in WRITERS])
def test_a_call_that_is_denied_leaves_the_old_or_the_new(tmp_path, writer, whole):
    writer = writer()

    def one(number: int, folder: Path) -> bool:
        error = ERRORS[number % len(ERRORS)]
        was_denied, said = denied_at(number, folder, lambda: writer.write(folder), error)
        kind = said.partition(":")[0]
        assert kind in ("", "OSError", "PermissionError", "RasterError", "ArtifactError",
                        "ManifestError"), said  # fmt: skip
        found = require_whole(writer, folder)
        assert said or found == "new" or not was_denied or isinstance(writer, Engine)
        return was_denied

    assert each_call(tmp_path, writer, whole, one) >= 2


@pytest.mark.fault(47, 61)
@pytest.mark.parametrize("writer", WRITERS, ids=[writer.__name__ for writer in WRITERS])
def test_a_kill_at_a_call_leaves_the_old_or_the_new(tmp_path, writer, whole):
    writer = writer()

    def one(number: int, folder: Path) -> bool:
        died = killed_at(number, folder, lambda: writer.write(folder))
        assert require_whole(writer, folder) == "new" or died
        return died

    assert each_call(tmp_path, writer, whole, one) >= 2


@pytest.mark.fault(47, 61)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("writer", WRITERS, ids=[writer.__name__ for writer in WRITERS])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(tmp_path, writer, whole):
    writer, dice = writer(), random.Random(writer.__name__)
    ready, folder = tmp_path / "ready", tmp_path / "folder"
    ready.mkdir()
    apart(lambda: writer.prepare(ready))
    wanted = -(-(WHOLE_KILLS if whole else KILLS) // len(WRITERS))
    after_s, longest_s, died = 60.0, 60.0, 0
    while died < wanted:
        shutil.copytree(ready, folder, symlinks=True)
        began_s = time.monotonic()
        is_dead = killed_after(after_s, lambda: writer.write(folder))
        if not is_dead:  # then it takes no longer than this, whatever else the machine does
            longest_s = min(longest_s, time.monotonic() - began_s)
        assert require_whole(writer, folder) == "new" or is_dead
        shutil.rmtree(folder)
        died += is_dead
        after_s = dice.uniform(0, longest_s)
