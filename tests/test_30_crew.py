"""The crew shares out calls, keeps their order, and leaves nothing running behind."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from esccs_edge.crew import Crew

PATIENCE_S = 10.0


@pytest.fixture
def crew():
    made = Crew(2)
    yield made
    made.close()


def test_results_come_in_the_order_of_the_calls(crew):
    assert crew.share([lambda n=n: n * n for n in range(20)]) == [n * n for n in range(20)]
    assert crew.share([]) == []


def test_as_many_run_at_once_as_there_are_threads(crew):
    meeting = threading.Barrier(2)
    crew.share([lambda: meeting.wait(PATIENCE_S)] * 2)  # would break if one ran after the other
    names = crew.share([lambda: threading.current_thread().name] * 8)
    assert set(names) <= {"esccs-edge-cpu-0", "esccs-edge-cpu-1"}


def test_the_first_error_is_raised_when_all_have_ended(crew):
    ended = []

    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        crew.share([fail, lambda: ended.append(1), lambda: ended.append(2)])
    assert sorted(ended) == [1, 2]
    assert crew.share([lambda: "on"]) == ["on"]


def test_an_interrupted_caller_waits_for_what_runs_and_drops_the_rest(crew, monkeypatch):
    started, leave, ran = threading.Barrier(3), threading.Event(), []

    def slow():
        started.wait(PATIENCE_S)
        assert leave.wait(PATIENCE_S)
        ran.append("slow")

    from esccs_edge import crew as module

    real_wait, waits = module.wait, []

    def interrupted(futures):
        waits.append(1)
        if len(waits) == 1:
            started.wait(PATIENCE_S)
            raise KeyboardInterrupt
        leave.set()
        return real_wait(futures)

    monkeypatch.setattr(module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        crew.share([slow, slow, lambda: ran.append("late")])
    assert ran == ["slow", "slow"]
    monkeypatch.undo()
    assert crew.share([lambda: "on"]) == ["on"]


def test_closing_twice_ends_the_threads_once(crew):
    before = threading.active_count()
    crew.share([lambda: None])
    assert threading.active_count() == before + 2
    crew.close()
    crew.close()
    assert threading.active_count() == before


def test_it_still_works_while_the_interpreter_ends():
    script = (
        "import atexit; from esccs_edge.crew import Crew; crew = Crew(2)\n"
        "atexit.register(lambda: print(crew.share([lambda: 'late'])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "['late']\n" and done.returncode == 0, done.stderr
