"""The pipeline over a scripted backend: order, batches, back-pressure, deadlines."""

from __future__ import annotations

import threading
import time

import pytest
from support.fake import (
    PATIENCE_S,
    FakeBackend,
    FakeLane,
    balance,
    labels,
    numbered,
    numbered_manifest,
    numbered_pair,
    submit,
    until,
    with_a_batch_under_way,
)

from esccs_edge.errors import (
    BackendError,
    ClosedError,
    DeadlineExceeded,
    InputError,
    Overloaded,
)

MANIFEST = numbered_manifest()


# ---- warmup -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 3])
def test_warmup_runs_some_sizes_twice_on_every_lane(make, monkeypatch, lanes):
    seen = {}
    start = FakeLane.start

    def noted(lane, batch):
        seen.setdefault(lane, []).append(len(batch))
        start(lane, batch)

    monkeypatch.setattr(FakeLane, "start", noted)
    pipeline = make(FakeBackend(max_batch=11), lanes=lanes)
    pipeline.warmup(numbered_pair(1))
    assert list(seen.values()) == [[1, 2, 3, 4, 5, 8, 9, 11] * 2] * lanes
    assert labels(pipeline.run(numbered([7]))) == ["c7"]


def test_warmup_that_fails_says_why_and_leaves_the_pipeline_as_it_was(make):
    failures = [BackendError("no driver"), RuntimeError("no memory")]

    def fail_once(numbers):
        if failures:
            raise failures.pop()

    backend = FakeBackend(max_batch=2, script=fail_once)
    pipeline = make(backend, lanes=2)
    with pytest.raises(BackendError, match="RuntimeError: no memory"):
        pipeline.warmup(numbered_pair(1))
    with pytest.raises(BackendError, match="no driver") as caught:
        pipeline.warmup(numbered_pair(1))
    assert caught.value.__cause__ is None
    assert labels(pipeline.run(numbered(range(6)))) == [f"c{n}" for n in range(6)]
    assert backend.open_lanes == 2


# ---- run ----------------------------------------------------------------------------------------


@pytest.mark.fault(12, 27)
@pytest.mark.parametrize("count", [0, 1, 4, 5, 31])
@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_run_keeps_order_over_chunks_and_lanes(make, count, lanes):
    backend = FakeBackend(max_batch=4)
    answers = make(backend, lanes=lanes).run(numbered(range(count)))
    assert labels(answers) == [f"c{n}" for n in range(count)]
    assert sum(map(len, backend.batches)) == count


def test_run_of_many_pairs_has_several_lanes_started_at_once(make):
    backend = FakeBackend(max_batch=4)
    make(backend, lanes=2).run(numbered(range(32)))
    assert backend.most_started == 2


def test_threads_that_want_many_lanes_do_not_wait_for_each_other_for_ever(make):
    pipeline = make(FakeBackend(max_batch=1), lanes=2)
    answers = {}

    def work(offset: int) -> None:
        answers[offset] = labels(pipeline.run(numbered(range(offset, offset + 8))))

    threads = [threading.Thread(target=work, args=(8 * i,), daemon=True) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == {8 * i: [f"c{8 * i + k}" for k in range(8)] for i in range(6)}


# ---- submit -------------------------------------------------------------------------------------


def test_requests_that_wait_for_a_lane_share_batches(make, gate):
    backend = FakeBackend(max_batch=4, script=gate)
    pipeline = make(backend, lanes=1, max_delay_ms=0.0)
    first = submit(pipeline, numbered_pair(0))
    gate.await_entry()
    rest = [submit(pipeline, numbered_pair(n)) for n in range(1, 7)]
    gate.opened.set()
    assert labels(f.result(PATIENCE_S) for f in [first, *rest]) == [f"c{n}" for n in range(7)]
    assert backend.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_a_request_does_not_wait_for_company_while_nothing_is_under_way(make):
    pipeline = make(FakeBackend(), max_delay_ms=1e3 * PATIENCE_S)
    for _ in range(3):
        assert submit(pipeline, numbered_pair(3)).result(PATIENCE_S / 4).label == "c3"


def test_a_request_waits_for_others_while_another_batch_is_under_way(make, gate):
    backend = FakeBackend(max_batch=4, script=gate.for_zero)
    pipeline = with_a_batch_under_way(make, gate, backend, max_delay_ms=50.0)
    start = time.monotonic()
    first = submit(pipeline, numbered_pair(3))
    time.sleep(0.01)
    second = submit(pipeline, numbered_pair(4))
    assert labels(f.result(PATIENCE_S) for f in (first, second)) == ["c3", "c4"]
    assert time.monotonic() - start >= 0.05
    assert backend.batches == [[0], [3, 4]]


def test_what_waits_for_others_starts_when_the_other_batch_is_answered(make, gate):
    backend = FakeBackend(max_batch=4, script=gate.for_zero)
    pipeline = with_a_batch_under_way(make, gate, backend)
    waiting = [submit(pipeline, numbered_pair(n)) for n in (1, 2)]
    time.sleep(0.02)
    assert not any(future.done() for future in waiting)
    gate.opened.set()
    assert labels(f.result(PATIENCE_S / 2) for f in waiting) == ["c1", "c2"]
    assert backend.batches == [[0], [1, 2]]


def test_a_full_batch_does_not_wait_for_the_delay(make, gate):
    pipeline = with_a_batch_under_way(make, gate, FakeBackend(max_batch=4, script=gate.for_zero))
    futures = [submit(pipeline, numbered_pair(n)) for n in range(1, 5)]
    assert labels(f.result(PATIENCE_S / 2) for f in futures) == ["c1", "c2", "c3", "c4"]


@pytest.mark.fault(75)
def test_a_pair_is_released_once_it_is_answered(make, gate):
    released = []

    def script(numbers):
        gate.for_zero(numbers)
        if 7 in numbers:
            raise RuntimeError("seven")

    pipeline = make(FakeBackend(max_batch=1, script=script), lanes=1, release=released.append)
    pairs = numbered([0, 7, 3, 4])
    futures = [submit(pipeline, pair) for pair in pairs[:3]]
    gate.await_entry()
    assert released == []
    gate.opened.set()
    assert labels(pipeline.stream(pairs[3:])) == ["c4"]
    # A lane that failed might still read 7.
    assert released == [pairs[0], *pairs[2:]]
    with pytest.raises(BackendError):
        futures[1].result(PATIENCE_S)


@pytest.mark.fault(71)
def test_a_full_queue_refuses_at_once_and_a_cancelled_request_frees_its_place(make, gate):
    pipeline = make(FakeBackend(max_batch=1, script=gate), lanes=1, queue_size=3, max_delay_ms=0)
    submit(pipeline, numbered_pair(0))
    gate.await_entry()
    queued = [submit(pipeline, numbered_pair(n)) for n in (1, 2, 3)]
    with pytest.raises(Overloaded, match="3 requests"):
        submit(pipeline, numbered_pair(4))
    assert queued[1].cancel()
    late = submit(pipeline, numbered_pair(5))
    gate.opened.set()
    assert late.result(PATIENCE_S).label == "c5"
    assert queued[0].result(PATIENCE_S).label == "c1"
    assert pipeline.stats().rejected == 1 and pipeline.stats().cancelled == 1


def test_submit_refuses_before_the_pixels_are_checked_and_without_a_scan_of_the_queue(
    make, gate, monkeypatch
):
    pipeline = make(FakeBackend(max_batch=1, script=gate), lanes=1, queue_size=3, max_delay_ms=0)
    running = submit(pipeline, numbered_pair(0))
    gate.await_entry()
    queued = [submit(pipeline, numbered_pair(n)) for n in (1, 2, 3)]
    asked, checked = [], []
    for future in queued:
        monkeypatch.setattr(future, "cancelled", lambda: asked.append(1) or False)
    with pytest.raises(Overloaded):
        pipeline.submit(lambda: checked.append(1))
    assert not asked and not checked and pipeline.stats().rejected == 1
    gate.opened.set()
    assert labels(f.result(PATIENCE_S) for f in (running, *queued)) == ["c0", "c1", "c2", "c3"]
    pipeline.close()
    with pytest.raises(ClosedError):
        pipeline.submit(lambda: checked.append(1))
    assert not checked


def test_a_sample_that_cannot_be_checked_gives_its_place_in_the_queue_back(make, gate):
    pipeline = make(FakeBackend(max_batch=1, script=gate), lanes=1, queue_size=1, max_delay_ms=0)
    running = submit(pipeline, numbered_pair(0))
    gate.await_entry()

    def refuse():
        raise InputError("two bands are missing")

    for _ in range(3):
        with pytest.raises(InputError, match="two bands"):
            pipeline.submit(refuse)
    queued = submit(pipeline, numbered_pair(1))
    gate.opened.set()
    assert labels(f.result(PATIENCE_S) for f in (running, queued)) == ["c0", "c1"]
    stats = pipeline.stats()
    assert (stats.submitted, stats.completed, stats.rejected) == (2, 2, 0)


@pytest.mark.fault(73)
def test_a_running_request_cannot_be_cancelled(make, gate):
    pipeline = make(FakeBackend(script=gate))
    future = submit(pipeline, numbered_pair(7))
    gate.await_entry()
    assert not future.cancel()
    gate.opened.set()
    assert future.result(PATIENCE_S).label == "c7"


@pytest.mark.fault(73)
def test_a_cancelled_request_does_not_reach_the_backend(make, gate):
    backend = FakeBackend(max_batch=4, script=gate)
    pipeline = make(backend, lanes=1, max_delay_ms=0)
    submit(pipeline, numbered_pair(0))
    gate.await_entry()
    futures = [submit(pipeline, numbered_pair(n)) for n in (1, 2, 3)]
    assert futures[1].cancel()
    gate.opened.set()
    assert labels(f.result(PATIENCE_S) for f in (futures[0], futures[2])) == ["c1", "c3"]
    assert backend.batches == [[0], [1, 3]]


@pytest.mark.fault(72, 85)
def test_a_deadline_passes_even_while_every_lane_hangs(make, gate):
    backend = FakeBackend(max_batch=1, script=gate)
    pipeline = make(backend, lanes=2, max_delay_ms=0)
    running = [submit(pipeline, numbered_pair(n)) for n in (0, 1)]
    gate.await_entry()
    gate.await_entry()
    late = submit(pipeline, numbered_pair(2), deadline_ms=30)
    patient = submit(pipeline, numbered_pair(3), deadline_ms=1e3 * PATIENCE_S)
    with pytest.raises(DeadlineExceeded):
        late.result(PATIENCE_S)
    assert not any(future.done() for future in running)
    gate.opened.set()
    assert patient.result(PATIENCE_S).label == "c3"
    assert [2] not in backend.batches


def test_a_deadline_shorter_than_the_delay_is_served_at_once(make, gate):
    pipeline = with_a_batch_under_way(make, gate, FakeBackend(script=gate.for_zero))
    future = submit(pipeline, numbered_pair(1), deadline_ms=1e3 * PATIENCE_S / 2)
    assert future.result(PATIENCE_S / 4).label == "c1"


@pytest.mark.parametrize("deadline_ms", [0.0, -1.0, float("nan")])
def test_a_deadline_that_is_no_positive_time_is_refused(make, deadline_ms):
    with pytest.raises(InputError, match="deadline_ms"):
        submit(make(FakeBackend()), numbered_pair(0), deadline_ms=deadline_ms)


@pytest.mark.fault(74)
def test_a_callback_may_raise_submit_and_run_without_harm(make, caplog):
    pipeline = make(FakeBackend(max_batch=4), lanes=1, max_delay_ms=0)
    seen = []

    def callback(future):
        seen.append(pipeline.run(numbered([8]))[0].label)
        seen.append(submit(pipeline, numbered_pair(9)))
        raise RuntimeError("from a callback")

    submit(pipeline, numbered_pair(0)).add_done_callback(callback)
    until(lambda: len(seen) == 2)
    assert seen[0] == "c8" and seen[1].result(PATIENCE_S).label == "c9"
    until(lambda: "from a callback" in caplog.text)


@pytest.mark.fault(74)
@pytest.mark.parametrize("error", [RuntimeError("bad"), SystemExit("stop")])
def test_a_callback_that_raises_does_not_take_the_answers_of_others(make, gate, error):
    pipeline = with_a_batch_under_way(make, gate, FakeBackend(max_batch=2, script=gate.for_zero))

    def callback(future):
        raise error

    first = submit(pipeline, numbered_pair(1))
    first.add_done_callback(callback)
    second = submit(pipeline, numbered_pair(2))
    assert second.result(PATIENCE_S / 2).label == "c2"
    assert submit(pipeline, numbered_pair(3), deadline_ms=1e3).result(PATIENCE_S / 2).label == "c3"


# ---- stream -------------------------------------------------------------------------------------


def test_stream_keeps_order_and_the_place_of_errors(make):
    items = [InputError("bad") if n % 5 == 2 else numbered_pair(n) for n in range(40)]
    answers = list(make(FakeBackend(max_batch=4), lanes=2).stream(iter(items)))
    for n, answer in enumerate(answers):
        assert answer is items[n] if n % 5 == 2 else answer.label == f"c{n}"
    assert len(answers) == 40


@pytest.mark.fault(27)
def test_stream_pulls_lazily_and_only_a_few_batches_ahead(make):
    pulled = []

    def source():
        for n in range(60):
            pulled.append(n)
            yield numbered_pair(n)

    answers = make(FakeBackend(max_batch=4), lanes=2, max_delay_ms=0).stream(source())
    assert pulled == []
    for done in range(20):
        assert next(answers).label == f"c{done}"
        assert len(pulled) <= done + 1 + 3 * 4


def test_stream_hands_out_a_ready_answer_before_it_pulls_on(make):
    backend = FakeBackend(max_batch=1)
    handed = []

    def source():
        yield numbered_pair(0)
        until(lambda: len(backend.batches) == 1)
        time.sleep(0.05)  # let the future resolve
        yield numbered_pair(1)
        handed.append(first_was_out.is_set())
        yield numbered_pair(2)

    first_was_out = threading.Event()
    for answer in make(backend, max_delay_ms=0).stream(source()):
        if answer.label == "c0":
            first_was_out.set()
    assert handed == [True]


def test_stream_waits_for_a_place_instead_of_being_refused(make, gate):
    pipeline = make(FakeBackend(max_batch=1, script=gate), lanes=1, queue_size=2, max_delay_ms=0)
    submit(pipeline, numbered_pair(0))
    gate.await_entry()
    full = [submit(pipeline, numbered_pair(n)) for n in (1, 2)]
    streamed = []
    consumer = threading.Thread(
        target=lambda: streamed.extend(pipeline.stream(numbered(range(20)))), daemon=True
    )
    consumer.start()
    until(lambda: pipeline.stats().submitted == 4)
    assert not streamed and pipeline.stats().rejected == 0
    gate.opened.set()
    consumer.join(PATIENCE_S)
    assert labels(streamed) == [f"c{n}" for n in range(20)] and all(f.done() for f in full)


def test_an_abandoned_stream_gives_its_places_back(make, gate):
    def script(numbers):
        if numbers != [0]:
            gate(numbers)

    pipeline = make(FakeBackend(max_batch=1, script=script), lanes=1, queue_size=8)
    answers = pipeline.stream(numbered(range(4)))
    assert next(answers).label == "c0"
    answers.close()
    gate.opened.set()
    until(lambda: balance(pipeline) == 0)
    assert pipeline.stats().submitted == 2, "the test needs a request that was abandoned"
    assert pipeline.run(numbered([5]))[0].label == "c5"


def test_an_interrupt_in_the_source_is_raised_at_once_and_cancels_what_waits(make, gate):
    pipeline = make(FakeBackend(max_batch=2, script=gate), lanes=1, max_delay_ms=0)

    def source():
        yield numbered_pair(0)
        gate.await_entry()
        yield from numbered([1, 2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pipeline.stream(source()))
    gate.opened.set()
    until(lambda: balance(pipeline) == 0)
    assert pipeline.stats().cancelled == 2
