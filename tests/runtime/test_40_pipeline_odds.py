"""The pipeline while clocks jump, allocations fail, and everything goes wrong by turns."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from support.fake import (
    PATIENCE_S,
    FakeBackend,
    balance,
    numbered_pair,
    submit,
    until,
)

from esccs_edge.errors import BackendError, DeadlineExceeded, EsccsError, Overloaded

TEN_YEARS_S = 10 * 365 * 24 * 3600.0


@pytest.mark.fault(68)
def test_a_jumping_clock_moves_no_deadline(make, gate, monkeypatch):
    wall, looks = time.time, iter(range(10**9))
    monkeypatch.setattr(
        time, "time", lambda: wall() + TEN_YEARS_S * random.Random(next(looks)).uniform(-1, 1)
    )
    pipeline = make(FakeBackend(max_batch=1, script=gate), lanes=1, max_delay_ms=0)
    running = submit(pipeline, numbered_pair(0))
    gate.await_entry()
    late = submit(pipeline, numbered_pair(1), deadline_ms=30)
    patient = [submit(pipeline, numbered_pair(n), deadline_ms=1e3 * PATIENCE_S) for n in (2, 3)]
    with pytest.raises(DeadlineExceeded):
        late.result(PATIENCE_S)
    gate.opened.set()
    answers = [future.result(PATIENCE_S).label for future in (running, *patient)]
    assert answers == ["c0", "c2", "c3"]


NO_MEMORY = """
    import sys
    sys.path.insert(0, {tests!r})
    import _testcapi
    from support.fake import FakeBackend, numbered_manifest, numbered_pair
    from esccs_edge.errors import EsccsError
    from esccs_edge.runtime.pipeline import Pipeline

    pipeline = Pipeline(FakeBackend(), numbered_manifest())
    sample = [numbered_pair(3)]
    failed = 0
    for number in range(400):
        got = None
        _testcapi.set_nomemory(number, number + 1)
        try:
            got = pipeline.run(sample)
        except (MemoryError, EsccsError):
            failed += 1
        finally:
            _testcapi.remove_mem_hooks()
        if got is not None and not isinstance(got[0], EsccsError):
            assert got[0].label == "c3", got
        assert pipeline.run(sample)[0].label == "c3", number
    assert pipeline.stats().queued == 0
    print(failed)
"""


@pytest.mark.fault(94)
@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="allocations of CPython are failed"
)
def test_after_any_failed_allocation_the_next_call_works():
    pytest.importorskip("_testcapi")
    program = textwrap.dedent(NO_MEMORY).format(tests=str(Path(__file__).parents[1]))
    child = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program], capture_output=True, timeout=120
    )
    if child.returncode < 0:
        pytest.skip("CPython or NumPy of this version crash where one of these allocations fails")
    assert child.returncode == 0, child.stderr.decode()
    assert int(child.stdout) > 10


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.fault(97)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_rounds_of_faults_by_turns_leave_nothing_behind(make):
    draw = random.Random(5)

    def script(numbers):
        kind = draw.random()
        if kind < 0.1:
            raise BackendError("a passing failure")
        if kind < 0.15:
            raise RuntimeError("an unknown one")
        time.sleep(0.0005)

    pipeline = make(FakeBackend(script=script), lanes=2, queue_size=16, max_delay_ms=0.2)
    workers = 2 + 1
    most = threading.active_count() + workers + (workers + 1)  # those of callbacks come as needed
    descriptors = open_descriptors()
    for round_ in range(3):
        callers = [threading.Thread(target=mixed_calls, args=(pipeline, n)) for n in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(PATIENCE_S)
            assert not caller.is_alive(), round_
        until(lambda: balance(pipeline) == 0)
        gc.collect()
        until(lambda: threading.active_count() <= most)  # one that was let go may still be ending
    assert pipeline.stats().submitted >= 3 * 8 * 100
    assert open_descriptors() == descriptors


def mixed_calls(pipeline, seed: int) -> None:
    """Submit, cancel, give up waiting and raise in callbacks, each at its rate."""
    draw = random.Random(seed)
    for number in range(100):
        try:
            deadline_ms = draw.choice([None, 1.0, 1e3 * PATIENCE_S])
            future = submit(pipeline, numbered_pair(number % 64), deadline_ms=deadline_ms)
        except Overloaded:
            time.sleep(0.001)
            continue
        if draw.random() < 0.2:
            future.add_done_callback(lambda _: 1 / 0)
        if draw.random() < 0.2:
            future.cancel()
        elif draw.random() < 0.3:
            error = future.exception(PATIENCE_S)
            assert error is None or isinstance(error, EsccsError)
