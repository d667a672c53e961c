"""Callbacks of futures are the caller's code: whatever they do, answers and callbacks go on."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest
from support.fake import (
    CLASSES,
    PATIENCE_S,
    FakeBackend,
    labels,
    numbered,
    numbered_manifest,
    numbered_pair,
    submit,
    until,
)

from esccs_edge.errors import ClosedError
from esccs_edge.runtime import callbacks
from esccs_edge.runtime.pipeline import Pipeline


def chained(pipeline, depth, ends, wait):
    """Return a callback that submits a follow-up, with such a callback of its own, and waits."""

    def callback(_):
        follow_up = submit(pipeline, numbered_pair(depth))
        if depth > 1:
            follow_up.add_done_callback(chained(pipeline, depth - 1, ends, wait))
        ends.append(wait(follow_up))

    return callback


@pytest.mark.fault(74)
@pytest.mark.parametrize(("depth", "count"), [(1, 200), (3, 40)])
@pytest.mark.parametrize("lanes", [1, 2])
def test_callbacks_may_wait_for_a_follow_up(make, depth, count, lanes):
    pipeline = make(FakeBackend(max_batch=4), lanes=lanes, queue_size=1024)
    ends = []
    wait = chained(pipeline, depth, ends, lambda future: future.result(PATIENCE_S).label)
    for _ in range(count):
        submit(pipeline, numbered_pair(0)).add_done_callback(wait)
    until(lambda: len(ends) == depth * count)
    assert set(ends) == {f"c{n}" for n in range(1, depth + 1)}


@pytest.mark.fault(74)
def test_a_callback_may_wait_for_the_callback_of_its_follow_up(make):
    pipeline = make(FakeBackend(max_batch=1), lanes=1)
    ended = [threading.Event() for _ in range(6)]

    def callback_of(level):
        def callback(_):
            if level + 1 < len(ended):
                submit(pipeline, numbered_pair(0)).add_done_callback(callback_of(level + 1))
                assert ended[level + 1].wait(PATIENCE_S)
            ended[level].set()

        return callback

    submit(pipeline, numbered_pair(0)).add_done_callback(callback_of(0))
    assert ended[0].wait(PATIENCE_S)


@pytest.mark.fault(74)
def test_callbacks_that_block_hold_up_no_answer_and_no_other_callback(make):
    pipeline = make(FakeBackend(max_batch=4), lanes=2)
    released, others = threading.Event(), []
    try:
        for _ in range(12):
            submit(pipeline, numbered_pair(0)).add_done_callback(lambda _: released.wait())
        for number in range(8):
            future = submit(pipeline, numbered_pair(number))
            future.add_done_callback(lambda future: others.append(future.result().label))
            assert future.result(PATIENCE_S).label == f"c{number}"
        until(lambda: len(others) == 8)
        assert labels(pipeline.stream(numbered(range(8)))) == [f"c{n}" for n in range(8)]
        assert asyncio.run(answered(pipeline)) == "c5"
    finally:
        released.set()


async def answered(pipeline):
    return (await asyncio.wrap_future(submit(pipeline, numbered_pair(5)))).label


def test_threads_of_callbacks_that_blocked_end_again(make):
    pipeline, released, ends = make(FakeBackend(max_batch=4), lanes=1), threading.Event(), []

    def blocked(_):
        released.wait()
        ends.append(1)

    for _ in range(20):
        submit(pipeline, numbered_pair(0)).add_done_callback(blocked)
    until(lambda: callback_threads() >= 20)
    released.set()
    until(lambda: len(ends) == 20 and callback_threads() <= 2 + 1)


def callback_threads() -> int:
    return sum(thread.name == "esccs-edge-callbacks" for thread in threading.enumerate())


@pytest.mark.fault(77)
def test_close_does_not_wait_for_ever_for_a_callback_that_blocks(make):
    backend, released = FakeBackend(), threading.Event()
    pipeline = make(backend)
    submit(pipeline, numbered_pair(0)).add_done_callback(lambda _: released.wait())
    started_s = time.monotonic()
    pipeline.close(timeout_s=0.1)
    assert time.monotonic() - started_s < PATIENCE_S / 2 and backend.closed == 1
    released.set()


@pytest.mark.fault(77)
def test_several_callbacks_may_close(make):
    pipeline, ends = make(FakeBackend(max_batch=4), lanes=2), []

    def close(_):
        pipeline.close()
        ends.append("closed")

    futures = [submit(pipeline, numbered_pair(0)) for _ in range(6)]
    for future in futures:
        future.add_done_callback(close)
    until(lambda: len(ends) == 6)
    assert all(future.done() for future in futures)


def test_close_waits_for_callbacks(make):
    pipeline, ends = make(FakeBackend(max_batch=4)), []

    def slow(future):
        time.sleep(0.01)
        ends.append(future.result().label)

    for number in range(10):
        submit(pipeline, numbered_pair(number)).add_done_callback(slow)
    pipeline.close()
    assert sorted(ends) == sorted(f"c{n}" for n in range(10))


def test_callbacks_of_one_future_run_in_their_order_and_later_ones_at_once(make, gate):
    pipeline, seen = make(FakeBackend(script=gate)), []
    future = submit(pipeline, numbered_pair(1))
    for number in range(5):
        future.add_done_callback(lambda _, number=number: seen.append(number))
    gate.opened.set()
    until(lambda: len(seen) == 5)
    future.add_done_callback(lambda found: seen.append(found.result().label))
    assert seen == [0, 1, 2, 3, 4, "c1"]


def test_a_cancelled_future_tells_its_callbacks(make, gate):
    pipeline = make(FakeBackend(max_batch=1, script=gate), lanes=1)
    submit(pipeline, numbered_pair(0))
    gate.await_entry()
    future, seen = submit(pipeline, numbered_pair(1)), []
    future.add_done_callback(lambda found: seen.append(found.cancelled()))
    assert future.cancel() and future.cancel()
    until(lambda: seen == [True])
    gate.opened.set()


@pytest.mark.fault(93)
def test_without_a_thread_callbacks_run_where_the_answer_was_made(make, monkeypatch):
    pipeline, seen = make(FakeBackend()), []
    submit(pipeline, numbered_pair(0)).result(PATIENCE_S)
    monkeypatch.setattr(callbacks.threading.Thread, "start", no_more_threads)
    submit(pipeline, numbered_pair(1)).add_done_callback(lambda f: seen.append(f.result().label))
    until(lambda: seen == ["c1"])


def no_more_threads(_):
    raise RuntimeError("can't start new thread")


@pytest.mark.fault(75)
def test_a_callback_keeps_nothing_alive_after_it_ran(make):
    class Owner:
        pass

    pipeline, owner = make(FakeBackend()), Owner()
    future, seen = submit(pipeline, numbered_pair(0)), []
    future.add_done_callback(lambda _, owner=owner: seen.append(1))
    gone = weakref.ref(owner)
    until(lambda: bool(seen))
    del owner, future
    until(lambda: gc.collect() is not None and gone() is None)


def test_a_callback_may_hold_the_last_reference_to_its_pipeline():
    backend, seen = FakeBackend(), []
    pipeline = Pipeline(backend, numbered_manifest())
    submit(pipeline, numbered_pair(0)).add_done_callback(lambda _, kept=pipeline: seen.append(1))
    del pipeline
    until(lambda: bool(seen))
    until(lambda: gc.collect() is not None and backend.closed == 1)


# ---- iterators ----------------------------------------------------------------------------------


@pytest.mark.parametrize("broken_at", [0, 1, 7, 30])
@pytest.mark.parametrize("error", [ValueError("no file"), OSError(5, "I/O error")])
def test_stream_hands_over_what_came_before_its_source_fails(make, broken_at, error):
    def source():
        yield from numbered(n % CLASSES for n in range(broken_at))
        raise error

    seen = []
    with pytest.raises(type(error)) as caught:
        for answer in make(FakeBackend(max_batch=4), lanes=2).stream(source()):
            seen.append(answer.label)
    assert caught.value is error
    assert seen == [f"c{n % CLASSES}" for n in range(broken_at)]


def test_stream_hands_over_what_came_before_the_model_is_closed(make):
    pipeline = make(FakeBackend(max_batch=4), lanes=2)

    def source():
        for number in range(40):
            if number == 30:
                pipeline.close()
            yield numbered_pair(number % CLASSES)

    seen = []
    with pytest.raises(ClosedError):
        for answer in pipeline.stream(source()):
            seen.append(answer.label)
    assert seen == [f"c{n % CLASSES}" for n in range(30)]
