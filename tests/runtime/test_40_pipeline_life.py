"""The pipeline under load, and how it ends: closing, forgetting, forks."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError

import numpy as np
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
    poison,
    submit,
    until,
    with_a_batch_under_way,
)

from esccs_edge.errors import (
    BackendError,
    ClosedError,
    DeadlineExceeded,
    ForkedProcessError,
    InputError,
    Overloaded,
)
from esccs_edge.runtime.pipeline import Pipeline

MANIFEST = numbered_manifest()


@pytest.mark.fault(71)
def test_under_load_from_many_threads_every_request_ends_exactly_once(make):
    def script(numbers):
        time.sleep(0.0005)
        poison(13)(numbers)

    pipeline = make(FakeBackend(max_batch=4, script=script), queue_size=16, max_delay_ms=0.5)
    outcome = Counter()
    lock = threading.Lock()

    def one(rng) -> str:
        number = int(rng.integers(CLASSES))
        try:
            deadline_ms = 2.0 if rng.random() < 0.2 else None
            future = submit(pipeline, numbered_pair(number), deadline_ms=deadline_ms)
        except Overloaded:
            return "rejected"
        if rng.random() < 0.2:
            future.cancel()
        try:
            assert future.result(PATIENCE_S).label == f"c{number}"
            return "completed"
        except CancelledError:
            return "cancelled"
        except (BackendError, DeadlineExceeded):
            return "failed"

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            result = one(rng)
            with lock:
                outcome[result] += 1

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sum(outcome.values()) == 32 * 40
    until(lambda: balance(pipeline) == 0)  # a cancelled request is counted when it is met
    stats = pipeline.stats()
    assert {key: getattr(stats, key) for key in outcome} == dict(outcome)


def test_a_long_run_does_not_keep_others_from_the_lane(make):
    backend = FakeBackend(max_batch=1, script=lambda numbers: time.sleep(0.005))
    pipeline = make(backend, lanes=1)
    stop = threading.Event()

    def hog() -> None:
        while not stop.is_set():
            pipeline.run(numbered([1] * 50))

    thread = threading.Thread(target=hog, daemon=True)
    thread.start()
    until(lambda: len(backend.batches) > 2)
    before = len(backend.batches)
    pipeline.run(numbered([2]))
    between = backend.batches[before:].index([2])
    stop.set()
    thread.join(PATIENCE_S)
    assert between <= 5


def test_a_request_gets_its_turn_among_many_threads_that_run(make):
    backend = FakeBackend(max_batch=1, script=lambda numbers: time.sleep(0.005))
    pipeline = make(backend, lanes=1, max_delay_ms=0)
    stop = threading.Event()

    def hog() -> None:
        while not stop.is_set():
            pipeline.run(numbered([1]))

    threads = [threading.Thread(target=hog, daemon=True) for _ in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: len(backend.batches) > 24)
    before = len(backend.batches)
    submit(pipeline, numbered_pair(2)).result(PATIENCE_S)
    between = backend.batches[before:].index([2])
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert between <= 12 + 5


@pytest.mark.fault(77)
def test_close_answers_what_was_accepted(make, gate):
    pipeline = with_a_batch_under_way(make, gate, FakeBackend(max_batch=4, script=gate.for_zero))
    futures = [submit(pipeline, numbered_pair(n)) for n in range(7, 14)]
    threading.Timer(0.05, gate.opened.set).start()
    pipeline.close()
    assert labels(f.result(0) for f in futures) == [f"c{n}" for n in range(7, 14)]


def test_close_without_draining_cancels_what_waits_and_finishes_what_runs(make, gate):
    backend = FakeBackend(max_batch=1, script=gate)
    pipeline = make(backend, lanes=1)
    running = submit(pipeline, numbered_pair(0))
    gate.await_entry()
    waiting = [submit(pipeline, numbered_pair(n)) for n in (1, 2)]
    threading.Timer(0.05, gate.opened.set).start()
    pipeline.close(drain=False)
    assert running.result(0).label == "c0" and all(f.cancelled() for f in waiting)
    assert backend.closed == 1 and backend.open_lanes == 0 and balance(pipeline) == 0


@pytest.mark.fault(77)
def test_close_is_idempotent_and_later_use_is_refused(make):
    backend = FakeBackend()
    pipeline = make(backend)
    pipeline.close()
    pipeline.close()
    assert backend.closed == 1
    for use in (
        lambda: pipeline.run(numbered([1])),
        lambda: submit(pipeline, numbered_pair(1)),
        lambda: pipeline.stream([]),
    ):
        with pytest.raises(ClosedError):
            use()


@pytest.mark.fault(77)
def test_close_during_load_leaves_no_request_without_an_end(make):
    pipeline = make(FakeBackend(max_batch=4, script=lambda numbers: time.sleep(0.001)))
    futures, refused = [], []

    def work() -> None:
        while not refused:
            try:
                futures.append(submit(pipeline, numbered_pair(1)))
            except Overloaded:
                time.sleep(0.001)
            except ClosedError as error:
                refused.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    pipeline.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert futures and all(future.done() for future in futures) and balance(pipeline) == 0


@pytest.mark.fault(85)
def test_close_comes_back_although_the_backend_hangs(make, gate):
    backend = FakeBackend(max_batch=1, script=gate)
    pipeline = make(backend, lanes=1)
    running = submit(pipeline, numbered_pair(0))
    gate.await_entry()
    waiting = submit(pipeline, numbered_pair(1))
    pipeline.close(timeout_s=0.1)
    assert waiting.cancelled() and not running.done() and backend.closed == 0
    gate.opened.set()
    assert running.result(PATIENCE_S).label == "c0"


def test_close_from_a_callback_does_not_wait_for_itself(make):
    backend = FakeBackend()
    pipeline = make(backend, max_delay_ms=0)
    submit(pipeline, numbered_pair(0)).add_done_callback(lambda future: pipeline.close())
    until(lambda: backend.closed == 1)


def test_a_stream_ends_with_an_error_when_the_pipeline_is_closed(make):
    pipeline = make(FakeBackend(max_batch=1))
    answers = pipeline.stream(numbered(n % CLASSES for n in range(1000)))
    next(answers)
    pipeline.close(drain=False)
    with pytest.raises(ClosedError):
        list(answers)


@pytest.mark.fault(75)
def test_a_forgotten_pipeline_frees_its_threads_and_lanes():
    backend = FakeBackend()
    pipeline = Pipeline(backend, MANIFEST)
    submit(pipeline, numbered_pair(1)).result(PATIENCE_S)
    workers = set(pipeline._batcher._threads)
    del pipeline
    gc.collect()
    until(lambda: backend.closed == 1)
    until(lambda: not any(thread.is_alive() for thread in workers))


@pytest.mark.fault(78)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_and_leaves_the_parent_unharmed(make):
    pipeline = make(FakeBackend())
    submit(pipeline, numbered_pair(1)).result(PATIENCE_S)
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (pipeline.run, lambda pairs: submit(pipeline, pairs[0]), pipeline.stream):
            try:
                use(numbered([1]))
            except ForkedProcessError:
                refused += 1
        pipeline.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert labels(pipeline.run(numbered(range(9)))) == [f"c{n}" for n in range(9)]


@pytest.mark.parametrize("options", [{"lanes": 0}, {"queue_size": 0}, {"max_delay_ms": -1.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="expected at least"):
        Pipeline(FakeBackend(), MANIFEST, **options)


def test_stats_tell_batches_and_latencies(make):
    pipeline = make(FakeBackend(max_batch=4))
    pipeline.run(numbered(range(6)))
    stats = pipeline.stats()
    assert stats.batches == 2 and stats.mean_batch_size == 3.0 and stats.queued == 0
    assert 0 < stats.latency_ms["p50"] <= stats.latency_ms["p99"]
