"""The soak for some seconds: that it keeps its accounts, and that it notices what breaks."""

from __future__ import annotations

import itertools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the soak reads /proc and forks", allow_module_level=True)
pytest.importorskip("rasterio")

from benchmarks.load import __main__ as command
from benchmarks.load import long_run as running
from benchmarks.load.long_run import long_run
from benchmarks.load.long_run_page import long_run_page
from benchmarks.load.process_state import ProcessState

from esccs_edge.backends.cpu.lane import CpuLane
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import InputError
from esccs_edge.runtime import batcher
from esccs_edge.scenes import map_writer

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
SECONDS = 4.0
HOST = {
    "processor": "a processor", "cores": 2, "system": "Linux", "python": "3",
    "openvino": "2025", "numpy": "2", "esccs_edge": "0",
}  # fmt: skip


@pytest.fixture(autouse=True)
def children_find_the_package(monkeypatch):
    """Processes that the soak starts import what this one imports."""
    import esccs_edge

    places = [str(Path(esccs_edge.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))


@pytest.fixture
def without_processes(monkeypatch):
    """Leave out the troubles that start processes, which take seconds each."""
    monkeypatch.setattr(running, "QUICK_PER_SLOW", 10**9)


def soaked(**options):
    return long_run(Bundle.open(), SECONDS / 3600, threads=1, **options)


@pytest.mark.slow
@pytest.mark.fault(97)
def test_a_soak_of_some_seconds_accounts_for_every_request(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, "QUICK_PER_SLOW", 2)
    words = ["--hours", str(2 * SECONDS / 3600), "--threads", "1", "--out", str(tmp_path / "out")]
    assert command.main(words) == 0, capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "soak.json").read_text())
    assert found["breaks"] == 0 and found["broken"] == []
    assert set(found["unaccounted"].values()) == {0}
    for way, asked in found["asked"].items():
        assert sum(found["ended"][way].values()) == asked, way
    for way in ("classify", "classify_batch", "submit", "stream", "aclassify"):
        assert found["ended"][way]["answered"] > 0 and found["ended"][way]["InputError"] > 0, way
    assert {"1", "25", "29", "72", "74"} <= set(found["faults"])
    page = (tmp_path / "out" / "soak.md").read_text()
    assert "**No promise broke.**" in page and page.strip() in capsys.readouterr().out


def test_a_lost_answer_is_noticed(monkeypatch, without_processes):
    numbers, resolve = itertools.count(), batcher._resolve

    def forgetful(future, answer):
        if next(numbers) % 500 != 499:
            resolve(future, answer)

    monkeypatch.setattr(batcher, "_resolve", forgetful)
    found = soaked(patience_s=0.5)
    assert any("no answer within 0.5 s" in line for line in found.broken), found.broken
    assert sum(found.unaccounted.values()) > 0
    assert "promises broke" in long_run_page(found, HOST)


def test_a_wrong_answer_is_noticed(monkeypatch, without_processes):
    begun, finish, start = [], CpuLane.finish, running._LongRun._start

    def noted_start(run):
        begun.append(run)  # from here on, so that the answers known before are right
        return start(run)

    def wrong(lane):
        output = finish(lane)
        if begun:
            output.outputs["logits"][:] = output.outputs["logits"][:, ::-1]
        return output

    monkeypatch.setattr(CpuLane, "finish", wrong)
    monkeypatch.setattr(running._LongRun, "_start", noted_start)
    found = soaked(patience_s=5.0)
    assert any("wrong: " in line for line in found.broken), found.broken


def test_a_temporary_that_is_left_is_noticed(monkeypatch, without_processes):
    finish = map_writer._finish

    def careless(folder, stem, overviews):
        folder.parent.joinpath(".map-0123456789abcdef.esccs-partial.next").touch()
        return finish(folder, stem, overviews)

    monkeypatch.setattr(map_writer, "_finish", careless)
    found = soaked(patience_s=5.0)
    assert any("left behind" in line for line in found.broken), found.broken


def test_growth_is_noticed(monkeypatch, without_processes):
    now, numbers = ProcessState.now, itertools.count(1)

    def growing(began_s, asked):
        state, number = now(began_s, asked), next(numbers)
        return replace(
            state,
            resident_bytes=state.resident_bytes + number * 2**26,
            threads=state.threads + 50 * number,
            descriptors=state.descriptors + 50 * number,
        )

    monkeypatch.setattr(ProcessState, "now", growing)
    monkeypatch.setattr(running, "SETTLING_S", 0.0)
    found = soaked(patience_s=5.0)
    for field in ("resident_bytes", "threads", "descriptors"):
        assert any(line.startswith(f"{field} grew") for line in found.broken), found.broken


def test_no_time_is_no_soak():
    with pytest.raises(InputError, match="hours is 0"):
        long_run(Bundle.open(), 0)
