"""The pipeline when things go wrong: failing backends and interrupts."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import numpy as np
import pytest
from support.fake import (
    CLASSES,
    PATIENCE_S,
    FakeBackend,
    FakeLane,
    balance,
    labels,
    numbered,
    numbered_manifest,
    numbered_pair,
    poison,
    submit,
)

from esccs_edge.contracts.values import Flag
from esccs_edge.errors import BackendError, Overloaded, Remedy
from esccs_edge.runtime.batcher import Batcher
from esccs_edge.runtime.lane_pool import LanePool
from esccs_edge.runtime.pipeline import Pipeline

MANIFEST = numbered_manifest()


def failing(times: int, error: Exception):
    left = [times]

    def script(*args):
        if left[0]:
            left[0] -= 1
            raise error

    return script


@pytest.mark.fault(88)
def test_a_failure_is_tried_once_more_and_the_answer_says_so(make):
    pipeline = make(FakeBackend(script=failing(1, BackendError("transient"))))
    answers = pipeline.run(numbered(range(3)))
    assert labels(answers) == ["c0", "c1", "c2"]
    assert all(Flag.RETRIED in answer.flags for answer in answers)
    assert Flag.RETRIED not in pipeline.run(numbered([1]))[0].flags


def test_a_poisoned_pair_fails_alone(make):
    answers = make(FakeBackend(max_batch=8, script=poison(3))).run(numbered(range(8)))
    assert isinstance(answers[3], BackendError)
    others = answers[:3] + answers[4:]
    assert labels(others) == [f"c{n}" for n in range(8) if n != 3]


def test_a_poisoned_request_fails_alone_among_those_of_other_threads(make, gate):
    def script(numbers):
        gate(numbers) if numbers == [0] else poison(3)(numbers)

    pipeline = make(FakeBackend(max_batch=8, script=script), lanes=1, max_delay_ms=0)
    submit(pipeline, numbered_pair(0))
    gate.await_entry()
    futures = [submit(pipeline, numbered_pair(n)) for n in range(1, 7)]
    gate.opened.set()
    wait(futures, PATIENCE_S)
    failed = [n for n, future in enumerate(futures, 1) if future.exception()]
    assert failed == [3]


@pytest.mark.fault(88)
def test_a_single_pair_is_run_no_more_than_twice(make):
    backend = FakeBackend(script=poison(3))
    assert isinstance(make(backend).run(numbered([3]))[0], BackendError)
    assert backend.batches == [[3], [3]]


@pytest.mark.fault(87)
@pytest.mark.parametrize("size", [1, 3])
def test_what_only_a_new_process_can_mend_is_not_tried_again(make, size):
    def lost(numbers):
        raise BackendError("the GPU state is lost", action=Remedy.RESTART)

    backend = FakeBackend(script=lost)
    answers = make(backend).run(numbered(range(size)))
    assert backend.batches == [list(range(size))]
    assert [answer.action for answer in answers] == ["restart"] * size


def test_an_unknown_exception_becomes_a_backend_error_with_its_cause(make):
    error = ZeroDivisionError("inside")
    answer = make(FakeBackend(script=failing(2, error))).run(numbered([1]))[0]
    assert isinstance(answer, BackendError) and answer.__cause__ is error


def test_a_lane_that_fails_twice_with_an_unknown_exception_is_replaced(make, monkeypatch):
    start, failures = FakeLane.start, [MemoryError()]

    def half_started(lane, batch):
        start(lane, batch)  # a lane in this state refuses to be started again
        if failures:
            raise failures.pop()

    monkeypatch.setattr(FakeLane, "start", half_started)
    pipeline = make(FakeBackend(), lanes=1)
    assert "started twice" in pipeline.run(numbered([1]))[0].message
    assert labels(pipeline.run(numbered([2]))) == ["c2"]


def test_a_lane_that_returns_the_wrong_shape_is_an_error(make):
    backend = FakeBackend(script=lambda numbers: np.zeros((len(numbers), 3), np.float32))
    answer = make(backend).run(numbered([1]))[0]
    assert isinstance(answer, BackendError) and "expected" in answer.message


@pytest.mark.fault(29)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_logit_fails_its_own_pair_only(make, value):
    def script(numbers):
        logits = np.zeros((len(numbers), CLASSES), np.float32)
        logits[np.arange(len(numbers)), numbers] = 5
        logits[1, 40] = value
        return logits

    answers = make(FakeBackend(script=script)).run(numbered(range(3)))
    assert isinstance(answers[1], BackendError)
    assert labels([answers[0], answers[2]]) == ["c0", "c2"]


@pytest.mark.fault(80)
def test_an_interrupt_discards_the_lane_and_the_next_run_works(make):
    backend = FakeBackend(script=failing(1, KeyboardInterrupt()))
    pipeline = make(backend, lanes=1)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(numbered(range(9)))
    assert labels(pipeline.run(numbered(range(9)))) == [f"c{n}" for n in range(9)]
    assert backend.open_lanes == 1 and balance(pipeline) == 0


def test_lanes_that_fail_to_close_are_replaced_and_what_failed_before_is_what_counts(
    make, monkeypatch
):
    def interrupt(numbers):
        raise KeyboardInterrupt

    def refuse(lane):
        close(lane)
        raise BackendError("the context is lost")

    backend = FakeBackend(max_batch=2, script=interrupt)
    pipeline = make(backend, lanes=2)
    close = FakeLane.close
    monkeypatch.setattr(FakeLane, "close", refuse)
    with pytest.raises(KeyboardInterrupt):
        pipeline.warmup(numbered_pair(1))
    monkeypatch.undo()
    backend.script = lambda numbers: None
    assert labels(pipeline.run(numbered(range(8)))) == [f"c{n}" for n in range(8)]
    assert backend.open_lanes == 2


def test_an_interrupt_between_start_and_the_first_wait_gives_all_lanes_back(make, monkeypatch):
    backend = FakeBackend(max_batch=2)
    pipeline = make(backend, lanes=3)
    land = Pipeline._answers_of

    def interrupted(self, flights, started_s):
        assert len(flights) == 3
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "_answers_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(numbered(range(20)))
    monkeypatch.setattr(Pipeline, "_answers_of", land)
    assert backend.open_lanes == 0 and balance(pipeline) == 0
    assert labels(pipeline.run(numbered(range(20)))) == [f"c{n}" for n in range(20)]


@pytest.mark.fault(80)
def test_an_interrupt_while_waiting_for_a_lane_blocks_no_other_thread(make, monkeypatch):
    pipeline = make(FakeBackend(), lanes=1)
    await_lane = LanePool.await_lane
    monkeypatch.setattr(LanePool, "await_lane", failing(1, KeyboardInterrupt()))
    monkeypatch.setattr(LanePool, "drop", failing(1, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(numbered([1]))
    monkeypatch.undo()
    assert LanePool.await_lane is await_lane
    assert labels(pipeline.run(numbered([1]))) == ["c1"]


@pytest.mark.fault(80)
def test_an_interrupt_on_the_way_into_the_queue_gives_the_place_back(make, monkeypatch):
    pipeline = make(FakeBackend(max_batch=1), lanes=1, queue_size=1, max_delay_ms=0)
    fill = Batcher._fill

    def interrupted(*_):
        raise KeyboardInterrupt

    for _ in range(3):
        monkeypatch.setattr(Batcher, "_fill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            submit(pipeline, numbered_pair(0))
        with pytest.raises(KeyboardInterrupt):
            next(pipeline.stream([numbered_pair(0)]))
    monkeypatch.setattr(Batcher, "_fill", fill)
    assert submit(pipeline, numbered_pair(1)).result(PATIENCE_S).label == "c1"
    assert pipeline.stats().submitted == 1


# Resources


def no_thread(self):
    raise RuntimeError("can't start new thread")


@pytest.mark.fault(93)
def test_without_a_thread_requests_are_refused_as_overload_and_then_taken(make, monkeypatch):
    pipeline = make(FakeBackend(), lanes=2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for _ in range(2):
            with pytest.raises(Overloaded, match="starts no thread"):
                submit(pipeline, numbered_pair(1))
        with pytest.raises(Overloaded, match="starts no thread"):
            list(pipeline.stream([numbered_pair(1)]))
        assert labels(pipeline.run([numbered_pair(2)])) == ["c2"]  # in the calling thread
    assert submit(pipeline, numbered_pair(3)).result(PATIENCE_S).label == "c3"
    stats = pipeline.stats()
    assert (stats.submitted, stats.completed, stats.rejected) == (5, 2, 3)


def test_one_thread_of_several_is_enough(make, monkeypatch):
    pipeline, start, started = make(FakeBackend(), lanes=3), threading.Thread.start, []

    def once(self):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", once)
    for _ in range(3):
        assert submit(pipeline, numbered_pair(1)).result(PATIENCE_S).label == "c1"
