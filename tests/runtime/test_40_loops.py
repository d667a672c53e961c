"""Many threads, and many rounds of closing, forking, spawning and leaving.

Sampled here; ``pytest --whole-loops`` submits a million requests and goes through 200 rounds.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import CancelledError

import pytest
from support.fake import (
    CLASSES,
    PATIENCE_S,
    FakeBackend,
    balance,
    labels,
    numbered,
    numbered_manifest,
    numbered_pair,
    submit,
    until,
)

from esccs_edge.errors import ClosedError, ForkedProcessError, Overloaded
from esccs_edge.runtime.pipeline import Pipeline

MANIFEST = numbered_manifest()
THREADS = 64
#: Requests that a thread submits before it waits: to wait for each costs a change of thread, which
#: on a busy machine takes longer than the request.
AT_ONCE = 8
PAIRS = [numbered_pair(number) for number in range(CLASSES)]


@pytest.mark.fault(71, 97)
@pytest.mark.timeout(3600)
def test_every_request_of_many_threads_gets_its_own_answer(make, whole):
    pipeline = make(FakeBackend(max_batch=32), lanes=2, queue_size=512)
    each = 1_000_000 // THREADS if whole else 40
    wrong, refused = [], [0] * THREADS

    def work(thread: int) -> None:
        for first in range(0, each, AT_ONCE):
            waiting = []
            for i in range(first, min(first + AT_ONCE, each)):
                number = (thread + i) % CLASSES
                try:
                    waiting.append((number, submit(pipeline, PAIRS[number])))
                except Overloaded:
                    refused[thread] += 1
            for number, future in waiting:
                if (label := future.result(PATIENCE_S).label) != f"c{number}":
                    wrong.append((thread, number, label))

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: balance(pipeline) == 0)
    stats = pipeline.stats()
    assert not wrong and stats.submitted == THREADS * each
    assert stats.rejected == sum(refused) and stats.completed + stats.rejected == stats.submitted


@pytest.mark.fault(77)
@pytest.mark.timeout(1800)
def test_rounds_of_closing_under_load_leave_nothing(whole):
    threads = threading.active_count()
    for number in range(200 if whole else 10):
        backend = FakeBackend(max_batch=4)
        pipeline = Pipeline(backend, MANIFEST, lanes=1 + number % 3)
        futures = [submit(pipeline, PAIRS[n]) for n in range(20)]
        pipeline.close(drain=number % 2 == 0)
        for n, future in enumerate(futures):
            assert future.done()
            try:
                assert future.result().label == f"c{n}"
            except CancelledError:
                assert number % 2
        with pytest.raises(ClosedError):
            submit(pipeline, PAIRS[0])
        assert backend.closed == 1 and backend.open_lanes == 0
    gc.collect()
    until(lambda: threading.active_count() <= threads)


@pytest.mark.fault(78)
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_rounds_of_forking_end_the_child_and_leave_the_parent(make, whole):
    pipeline = make(FakeBackend(max_batch=4), lanes=2)
    for number in range(200 if whole else 10):
        future = submit(pipeline, PAIRS[number % CLASSES])  # perhaps at work while this forks
        child = os.fork()
        if child == 0:
            try:
                submit(pipeline, PAIRS[0])
            except ForkedProcessError:
                with OwnPipeline() as own:
                    os._exit(0 if labels(own.run(numbered([5]))) == ["c5"] else 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert future.result(PATIENCE_S).label == f"c{number % CLASSES}"


class OwnPipeline:
    """A pipeline that is closed on leaving."""

    def __enter__(self) -> Pipeline:
        self._pipeline = Pipeline(FakeBackend(max_batch=4), MANIFEST)
        return self._pipeline

    def __exit__(self, *_: object) -> None:
        self._pipeline.close()


LEAVING = """
    import multiprocessing, os, signal, sys, threading
    from support.fake import FakeBackend, numbered_manifest, numbered_pair, submit
    from esccs_edge.runtime.pipeline import Pipeline

    def answer(number):
        pipeline = Pipeline(FakeBackend(max_batch=4), numbered_manifest())
        return submit(pipeline, numbered_pair(number)).result(20).label

    if __name__ == "__main__":
        pipeline = Pipeline(FakeBackend(max_batch=4), numbered_manifest(), lanes=2)
        futures = [submit(pipeline, numbered_pair(n)) for n in range(20)]
        futures[-1].add_done_callback(lambda future: print(future.result().label, flush=True))
        for round_ in range({rounds}):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                assert pool.map(answer, [round_]) == [f"c{{round_}}"]
        {leave}
"""


@pytest.mark.fault(82)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("leave", "status"),
    [("pass", 0), ("sys.exit(3)", 3), ("raise SystemExit(4)", 4),
     ("threading.Thread(target=pipeline.close).start()", 0),
     ("os.kill(os.getpid(), signal.SIGTERM)", -15)],
)  # fmt: skip
def test_a_process_may_leave_in_any_way(tmp_path, whole, leave, status):
    program = tmp_path / "leaving.py"
    program.write_text(textwrap.dedent(LEAVING).format(rounds=40 if whole else 1, leave=leave))
    support = os.path.dirname(os.path.dirname(__file__))
    path = os.pathsep.join([support, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=3600 if whole else 120,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == "c19\n" or status < 0
