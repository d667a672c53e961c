"""Names for a profile: only where they are asked for, and around what they say."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from support.trt_machine import Machine, assert_same, awkward_batch, cpu_answer

from esccs_edge.backends.trt.lane import TrtLane
from esccs_edge.backends.trt.ranged_lane import RangedLane
from esccs_edge.errors import MissingDependencyError


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


@pytest.fixture
def ranges(monkeypatch, machine):
    """A stand-in for the package nvtx; returns the ranges with what was called inside each."""
    found, opened = {}, []

    @contextmanager
    def annotate(name, domain):
        assert domain == "esccs-edge"
        before = len(machine.driver.log)
        opened.append(name)
        yield
        opened.pop()
        found["/".join([*opened, name])] = machine.driver.log[before:]

    monkeypatch.setitem(sys.modules, "nvtx", SimpleNamespace(annotate=annotate))
    monkeypatch.setenv("ESCCS_NVTX", "1")
    return found


def test_ranges_stand_around_the_steps_of_a_batch(machine, ranges):
    backend = machine.open(graph_batches=(5,))
    lane, pairs = backend.open_lane(), awkward_batch(machine.manifest)
    assert type(lane) is RangedLane
    for kind in ("plain", "plain", "graph"):
        ranges.clear()
        assert_same(lane.answer(pairs), cpu_answer(machine.folder / "bundle", pairs))
        enqueued = f"start 5/enqueue 5, {kind}"
        assert list(ranges) == ["start 5/fill", enqueued, "start 5", "finish"]
        assert not ranges["start 5/fill"] and "copy_to_device" in ranges[enqueued]
        assert ("launch_graph" in ranges[enqueued]) is (kind == "graph")
        assert ranges["finish"] == ["synchronize_event"]
    backend.close()


@pytest.mark.parametrize("value", [None, "", "0"])
def test_lanes_are_plain_ones_unless_asked(machine, monkeypatch, value):
    monkeypatch.setitem(sys.modules, "nvtx", None)
    if value is None:
        monkeypatch.delenv("ESCCS_NVTX", raising=False)
    else:
        monkeypatch.setenv("ESCCS_NVTX", value)
    backend = machine.open()
    assert type(backend.open_lane()) is TrtLane
    backend.close()


def test_missing_package_is_told_before_a_gpu_is_opened(machine, monkeypatch):
    monkeypatch.setenv("ESCCS_NVTX", "1")
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with pytest.raises(MissingDependencyError, match="pip install nvtx"):
        machine.open()
    assert not machine.driver.log
