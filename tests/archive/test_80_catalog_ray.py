"""`map --catalog --engine ray` on real local clusters of two workers, some of which are killed."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import rasterio
from support.archive_parts import item, records, write_items, write_scenes
from support.cli_parts import run_json

from esccs_edge.cuda.probe import probe_driver

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'scale' is not installed"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers in /proc"),
]

#: A scene of this many pixels keeps one worker busy for a good part of a second at stride 1.
BUSY_SIDE = 80
#: Longest a test waits for what takes seconds on an idle machine; starting Ray's processes takes
#: minutes where many others compete for few cores.
PATIENCE_S = 800.0
#: What Ray says when its processes did not start within 30 s, a limit that cannot be set.
TOO_BUSY = "The current node timed out during startup"


class Driver:
    """The command in a process of its own, whose Ray workers can be found and killed."""

    def __init__(self, catalog: Path, bundle, maps: Path, *options: str, **environment: str):
        self.maps = maps
        command = [
            sys.executable, "-m", "esccs_edge", "map", "--catalog", catalog, "--out", maps,
            "--bundle", bundle.folder, "--backend", "cpu", "--engine", "ray", "--json", *options,
        ]  # fmt: skip
        env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | environment
        self._log = (maps.parent / f"{maps.name}.log").open("w+b")
        self.process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=self._log, env=env
        )

    def wait_for(self, condition: Callable[[], object]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, self.log_text()
            assert time.monotonic() < end_s, self.log_text()
            time.sleep(0.01)

    def kill_worker_on(self, scene: str) -> bool:
        """Kill the worker that has a scene's optical raster open; False if none has."""
        for pid in descendants(self.process.pid):
            if any(file.endswith(f"/{scene}-optical.tif") for file in open_files(pid)):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def attempts(self, scene: str) -> int:
        """Return how often workers have begun a scene."""
        return sum(note.stat().st_size for note in self.maps.glob(f".*/{scene}"))

    def document(self, code: int = 0) -> dict:
        """Wait for the end and return the one JSON document on standard output."""
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == code, self.log_text()
        return json.loads(output)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._log.close()

    def log_text(self) -> str:
        """Return the end of the output; skips the test where Ray itself found no time."""
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        if TOO_BUSY in text:
            pytest.skip(f"this machine is too busy for Ray: {TOO_BUSY}")
        return text[-4000:]


def descendants(pid: int) -> list[int]:
    """Return children, grandchildren and so on of a process of ours."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        found += (below := children.get(waiting.pop(), []))
        waiting += below
    return found


def open_files(pid: int) -> list[str]:
    try:
        return [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:  # gone meanwhile
        return []


def title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def drive(bundle, tmp_path):
    """Start drivers that are gone when the test ends."""
    drivers: list[Driver] = []

    def start(catalog: Path, *options: str, maps: str = "maps", **environment: str) -> Driver:
        drivers.append(Driver(catalog, bundle, tmp_path / maps, *options, **environment))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


def test_a_killed_worker_costs_no_scene(drive, bundle, tmp_path):
    names = "abcde"
    items = write_scenes(tmp_path, bundle.manifest, names, side=BUSY_SIDE)
    catalog = write_items(tmp_path / "items.json", [*items, item("gone", optical="nowhere.tif")])
    driver = drive(catalog, "--workers", "2", "--stride", "1")
    driver.wait_for(lambda: driver.kill_worker_on("c"))
    assert len(records(driver.maps)) < len(names) and "c" not in records(driver.maps)
    driver.wait_for(lambda: driver.attempts("c") == 2)
    document = driver.document(code=1)
    assert [scene["id"] for scene in document["failed"]] == ["gone"]
    assert document["classified"] == len(names)
    assert list(driver.maps.glob(".*")) == []

    at = ("--bundle", bundle.folder, "--backend", "cpu", "--stride", "1")
    run_json("map", "--catalog", catalog, *at, "--out", tmp_path / "alone", code=1)
    for name, alone in records(tmp_path / "alone").items():
        found = records(driver.maps)[name]
        assert found["content_sha256"] == alone["content_sha256"]
        for key in ("class_map", "scores"):
            with rasterio.open(tmp_path / "alone" / alone[key]) as expected:
                with rasterio.open(driver.maps / found[key]) as made:
                    assert np.array_equal(made.read(), expected.read())


def test_a_scene_that_kills_every_worker_is_given_up(drive, bundle, tmp_path):
    items = write_scenes(tmp_path, bundle.manifest, ["deadly"], side=2 * BUSY_SIDE)
    items += write_scenes(tmp_path, bundle.manifest, ["harmless"])
    driver = drive(write_items(tmp_path / "items.json", items), "--workers", "1", "--stride", "1")
    for attempt in (1, 2, 3):
        driver.wait_for(lambda number=attempt: driver.attempts("deadly") == number)
        driver.wait_for(lambda: driver.kill_worker_on("deadly"))
    document = driver.document(code=1)
    assert document["failed"] == [{"id": "deadly", "reason": "3 workers died over it"}]
    assert document["classified"] == 1 and set(records(driver.maps)) == {"harmless"}


CLUSTER = """
import ray
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
input()
print(int(ray.cluster_resources()["CPU"]), flush=True)
"""


def test_a_cluster_that_is_there_is_used_and_left_running(drive, bundle, tmp_path):
    items = write_scenes(tmp_path, bundle.manifest, "ab")
    catalog = write_items(tmp_path / "items.json", items)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    env = os.environ | token | {"RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env=env,
    ) as cluster:  # fmt: skip
        assert cluster.stdin is not None and cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        driver = drive(catalog, RAY_ADDRESS=address, **token)
        seen = set()
        driver.wait_for(
            lambda: seen.update(map(title, descendants(cluster.pid))) or records(driver.maps)
        )
        assert any(b"_RayWorker" in words for words in seen)
        assert driver.document()["classified"] == 2
        answer, _ = cluster.communicate("\n", timeout=PATIENCE_S)
    assert answer.split() == ["2"]


def test_a_model_that_runs_on_no_worker_ends_the_run_with_its_reason(drive, bundle, tmp_path):
    if not probe_driver().problem:
        pytest.skip("this host has a GPU")
    catalog = write_items(tmp_path / "items.json", write_scenes(tmp_path, bundle.manifest, "a"))
    driver = drive(catalog, "--backend", "tensorrt", "--workers", "1")
    driver.process.wait(PATIENCE_S)
    assert driver.process.returncode == 1
    assert "error: Ray could not go on: " in driver.log_text()
    assert not list(driver.maps.glob("statistics*"))
