"""Faults of the catalog that are made beside the load, each one again and again.

Numbers are rows of ``docs/reliability.md``. A trouble makes its fault, looks whether what is
promised there was kept, and enters both in the ledger.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.rasters import NORTH_UP, random_scene, write_raster

from esccs_edge.classifier import Classifier
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import (
    ArtifactError,
    ClosedError,
    ForkedProcessError,
    ManifestError,
    RasterError,
)

from .asking import how_it_ended
from .known_pairs import Pairs
from .ledger import Ledger
from .process_state import temporaries

#: Height and width of the scene that is mapped.
SCENE = (200, 264)
#: Of a map, the share that a disk takes before it is full.
_DISK = 0.5


class Troubles:
    """Makes faults one after the other, in one thread.

    Args:
        classifier: The one under load, opened from ``bundle``.
        bundle: A copy that is updated and damaged beneath it.
        folder: Where scenes and maps lie.
        pairs: What is asked, with the answers.
        ledger: Where all is entered.
        patience_s: What takes longer hangs.
    """

    def __init__(
        self,
        classifier: Classifier,
        bundle: Path,
        folder: Path,
        pairs: Pairs,
        ledger: Ledger,
        patience_s: float,
    ) -> None:
        self._classifier = classifier
        self._bundle = bundle
        self._folder = folder
        self._pairs = pairs
        self._ledger = ledger
        self._patience_s = patience_s
        optical, sar = random_scene(classifier.manifest, *SCENE)
        self._optical = write_raster(folder / "optical.tif", optical)
        self._sar = write_raster(folder / "sar.tif", sar)
        shifted = NORTH_UP.translation(5.0, 0.0) @ NORTH_UP
        write_raster(folder / "elsewhere.tif", sar, transform=shifted)
        self._map = folder / "map.tif"
        classifier.classify_scene(self._optical, self._sar, self._map)
        self._whole = _files(folder)

    def quick(self) -> list[Callable[[random.Random], None]]:
        """Return the troubles that cost milliseconds."""
        return [
            self.a_map_over_the_old_one,
            self.a_full_disk,
            self.a_scene_that_is_none,
            self.an_update_beneath,
            self.a_damaged_bundle,
            self.a_fork,
            self.a_close_under_load,
        ]

    def slow(self) -> list[Callable[[random.Random], None]]:
        """Return the troubles that start a process of their own."""
        return [
            self.a_command_that_is_killed,
            self.an_update_that_is_killed,
            self.a_process_without_memory_and_files,
            self.a_child_with_a_model_of_its_own,
        ]

    def a_map_over_the_old_one(self, dice: random.Random) -> None:
        """Map the scene anew, which has to give the same bytes (row 84)."""
        self._ledger.made(84)
        self._mapped(self._optical, self._sar, expected="answered")

    def a_full_disk(self, dice: random.Random) -> None:
        """Map while files may not grow to the size of a map (row 46)."""
        self._ledger.made(46)
        with _small_files(int(_DISK * len(self._whole["map.tif"]))):
            self._mapped(self._optical, self._sar, expected="RasterError")

    def a_scene_that_is_none(self, dice: random.Random) -> None:
        """Map what is no scene, or not onto a map that is there (rows 31, 32, 35, 37, 45)."""
        cut = self._folder / "cut.tif"
        pipe = self._folder / "pipe.tif"
        virtual = self._folder / "virtual.tif"
        content = self._optical.read_bytes()
        cut.write_bytes(content[: dice.randrange(len(content) // 2)])
        os.mkfifo(pipe)
        virtual.write_text("<VRTDataset rasterXSize='8' rasterYSize='8'></VRTDataset>")
        for row, optical, sar in (
            (31, self._folder / "absent.tif", self._sar),
            (31, pipe, self._sar),
            (32, cut, self._sar),
            (35, virtual, self._sar),
            (37, self._optical, self._folder / "elsewhere.tif"),
        ):
            self._ledger.made(row)
            self._mapped(optical, sar, expected="RasterError")
        self._ledger.made(45)
        self._mapped(self._optical, self._sar, expected="RasterError", overwrite=False)
        for path in (cut, pipe, virtual):
            path.unlink()

    def an_update_beneath(self, dice: random.Random) -> None:
        """Update the bundle of the classifier that is at work (row 69)."""
        self._ledger.made(69)
        note = dice.randbytes(100).hex()
        Bundle.open(self._bundle).add({"note.json": json.dumps(note).encode()})
        updated = Bundle.open(self._bundle)
        updated.verify()
        if json.loads(updated.read("note.json")) != note:
            self._ledger.broke("row 69: an update is not there")

    def a_damaged_bundle(self, dice: random.Random) -> None:
        """Flip a bit of a file, or of the manifest; either is refused (rows 50, 52)."""
        names = sorted(Bundle.open(self._bundle).manifest.files)
        for row, name in ((52, dice.choice(names)), (50, "manifest.json")):
            self._ledger.made(row)
            path = self._bundle / name
            content = path.read_bytes()
            at = dice.randrange(len(content))
            damaged = bytearray(content)
            damaged[at] ^= 1 << dice.randrange(8)
            path.write_bytes(damaged if row == 52 else content[:at])
            try:
                Bundle.open(self._bundle).verify()
                self._ledger.broke(f"row {row}: {name} was damaged and passed")
            except (ArtifactError, ManifestError):
                pass
            finally:
                path.write_bytes(content)

    def a_fork(self, dice: random.Random) -> None:
        """Use the classifier in a forked child, which is refused and ends (row 78)."""
        self._fork(self._is_refused)

    def a_child_with_a_model_of_its_own(self, dice: random.Random) -> None:
        """Open another one in a forked child, as the hint of the refusal says (row 78)."""

        def own() -> bool:
            with Classifier(self._bundle, "cpu", threads=1) as classifier:
                known = self._pairs.good[0]
                return known.is_answered_by(classifier.classify(known.optical, known.sar))

        self._fork(lambda: self._is_refused() and own())

    def a_close_under_load(self, dice: random.Random) -> None:
        """Close another classifier while requests come in (row 77)."""
        self._ledger.made(77)
        way = "submit while it closes"
        other = Classifier(self._bundle, "cpu", threads=1)
        closing = threading.Timer(dice.uniform(0.0, 0.05), other.close)
        closing.start()
        waiting: list[Future[Any]] = []
        known = self._pairs.good[0]
        end_s = time.monotonic() + self._patience_s
        found: object = None
        while not isinstance(found, ClosedError) and time.monotonic() < end_s:
            self._ledger.ask(way)
            try:
                waiting.append(other.submit(known.optical, known.sar))
            except Exception as error:
                found = error
                self._ledger.end(
                    way, how_it_ended(known, found, ("ClosedError", "cancelled", "Overloaded"))
                )
        for future in waiting:
            try:
                found = future.result(self._patience_s)
            except (Exception, CancelledError) as error:
                found = error
            self._ledger.end(
                way, how_it_ended(known, found, ("ClosedError", "cancelled", "Overloaded"))
            )
        closing.join()
        stats = other.stats()
        if stats.submitted != stats.completed + stats.failed + stats.rejected + stats.cancelled:
            self._ledger.broke(f"row 77: the counts of a closed classifier do not balance: {stats}")

    def a_command_that_is_killed(self, dice: random.Random) -> None:
        """End ``esccs-edge map`` by a signal at any moment (rows 47, 80, 81)."""
        row, how = dice.choice(((47, signal.SIGKILL), (80, signal.SIGINT), (81, signal.SIGTERM)))
        self._ledger.made(row)
        words = ["map", self._optical, self._sar, self._map, "--overwrite"]
        child = self._start("-m", "esccs_edge", *words, "--bundle", self._bundle)
        try:
            child.wait(dice.uniform(0.1, 3.0))
        except subprocess.TimeoutExpired:
            child.send_signal(how)
        self._require_status(row, child, (0, -how, 128 + how, 130))
        self._require_whole(row, swept=how is not signal.SIGKILL)
        self._mapped(self._optical, self._sar, expected="answered")

    def an_update_that_is_killed(self, dice: random.Random) -> None:
        """Kill a process that does nothing but update the bundle (row 61)."""
        self._ledger.made(61)
        child = self._start("-c", textwrap.dedent(_UPDATING), self._bundle)
        if child.stdout is not None:
            child.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.3))
        child.kill()
        self._require_status(61, child, (-signal.SIGKILL,))
        opened = Bundle.open(self._bundle)
        opened.verify()
        if left := temporaries(self._bundle):
            self._ledger.broke(f"row 61: {left} left in the bundle")

    def a_process_without_memory_and_files(self, dice: random.Random) -> None:
        """Take memory and descriptors from a process that classifies (rows 93, 94)."""
        self._ledger.made(93)
        self._ledger.made(94)
        words = (self._bundle, self._optical, self._sar, self._folder / "scarce.tif")
        child = self._start("-c", textwrap.dedent(_SCARCE), *words)
        self._require_status(93, child, (0,))
        for path in self._folder.glob("scarce*"):
            path.unlink()
        self._require_whole(93)

    def _mapped(self, optical: Path, sar: Path, *, expected: str, overwrite: bool = True) -> None:
        way = "classify_scene"
        self._ledger.ask(way)
        try:
            self._classifier.classify_scene(optical, sar, self._map, overwrite=overwrite)
            how = "answered"
        except RasterError:
            how = "RasterError"
        except Exception as error:
            how = f"raised {type(error).__name__}: {error}"
        self._ledger.end(way, how)
        if how != expected:
            self._ledger.broke(f"a map of {optical.name} and {sar.name}: {how}, not {expected}")
        self._require_whole(84)

    def _require_whole(self, row: int, swept: bool = True) -> None:
        """Every map is as it was at first, and nothing lies beside them."""
        found = _files(self._folder)
        for name, content in self._whole.items():
            if found.get(name) != content:
                self._ledger.broke(f"row {row}: {name} is not what it was")
        if swept and (left := temporaries(self._folder)):
            self._ledger.broke(f"row {row}: {left} left behind")

    def _is_refused(self) -> bool:
        known = self._pairs.good[0]
        try:
            self._classifier.classify(known.optical, known.sar)
        except ForkedProcessError:
            return True
        return False

    def _fork(self, does_well: Callable[[], bool]) -> None:
        self._ledger.made(78)
        child = os.fork()
        if child == 0:
            try:
                good = does_well()
                gc.collect()
                os._exit(0 if good else 1)
            finally:
                os._exit(2)
        end_s = time.monotonic() + self._patience_s
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end_s:
            time.sleep(0.01)
        if ended[0] == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            self._ledger.broke("row 78: a forked child did not end")
        elif status := os.waitstatus_to_exitcode(ended[1]):
            self._ledger.broke(f"row 78: a forked child ended with {status}")

    def _start(self, *words: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )

    def _require_status(
        self, row: int, child: subprocess.Popen[str], expected: tuple[int, ...]
    ) -> None:
        try:
            _, said = child.communicate(timeout=self._patience_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            self._ledger.broke(f"row {row}: a process did not end")
            return
        if child.returncode not in expected:
            self._ledger.broke(f"row {row}: a process ended with {child.returncode}: {said[-800:]}")


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("map*") if path.is_file()}


@contextmanager
def _small_files(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond a limit, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


_UPDATING = """
    import os, sys
    from esccs_edge import Bundle
    print("ready", flush=True)
    while True:
        Bundle.open(sys.argv[1]).add({"note.json": b'"%s"' % os.urandom(50).hex().encode()})
"""

# Under the limit no thread is started: CPython may wait for ever for one that found no memory to
# begin with (its issue 140746).
_SCARCE = """
    import os, resource, sys
    from esccs_edge import Classifier, EsccsError, RasterError
    from esccs_edge.pixels.synthetic import smooth_samples

    bundle, optical, sar, out = sys.argv[1:]
    with Classifier(bundle, "cpu", threads=1, max_batch=8) as made:
        pixels = smooth_samples(made.manifest, 1)[0].pixels
        made.warmup()
        label = made.classify(**pixels).label
        assert made.submit(**pixels).result(60).label == label
        made.classify_scene(optical, sar, out)
        held = []
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, descriptors[1]))
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        assert made.classify(**pixels).label == label and made.health().ok
        try:
            made.classify_scene(optical, sar, out, overwrite=True)
            sys.exit("a scene was mapped without a descriptor")
        except RasterError:
            pass
        for one in held:
            os.close(one)
        made.classify_scene(optical, sar, out, overwrite=True)
        memory = resource.getrlimit(resource.RLIMIT_AS)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), memory[1]))
        accepted = []
        try:
            for _ in range(250):
                accepted.append(made.submit(**pixels))
        except (MemoryError, EsccsError):
            pass
        resource.setrlimit(resource.RLIMIT_AS, memory)
        for future in accepted:
            if (error := future.exception(60)) is None:
                assert future.result().label == label
            else:
                assert isinstance(error, EsccsError), error
        assert made.classify(**pixels).label == label and made.health().ok
"""
