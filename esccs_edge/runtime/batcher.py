"""Requests of many threads -> batches: a bounded queue and a few worker threads.

One worker at a time gathers. While another batch is under way it waits for the queue to fill or
for the oldest request to have waited long enough; then for a free lane; and only then it takes what
is queued. So a request that comes alone is answered at once, and a busy backend makes larger
batches by itself. There is one worker more than lanes, so that one is always free to let
deadlines expire, even while every lane hangs.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..backends.base import Lane
from ..contracts.manifest import Manifest
from ..contracts.values import Sample
from ..errors import (
    BackendError,
    ClosedError,
    DeadlineExceeded,
    EsccsError,
    Overloaded,
    Remedy,
)
from .batch_run import BatchRun, as_backend_error
from .callbacks import Answer, CallbackThreads
from .counters import Counters
from .lane_pool import LanePool

#: How often queued deadlines are looked at while every lane is busy.
DEADLINE_CHECK_S = 0.02

A = TypeVar("A")


@dataclass(frozen=True)
class BatchRules:
    """When a batch is complete and when a queue is full.

    Attributes:
        max_batch: Most samples in a batch.
        max_delay_s: Longest wait of a request for others, while another batch is under way.
        queue_size: Most requests that wait.
    """

    max_batch: int
    max_delay_s: float
    queue_size: int


@dataclass(frozen=True, eq=False)
class _Request(Generic[A]):
    sample: Sample
    future: Answer[A]
    enqueued_s: float
    deadline_s: float
    ready_s: float  # latest time to be put into a batch


@dataclass(eq=False)
class _Run(Generic[A]):
    """A batch that is in a lane."""

    started_s: float
    batch: list[_Request[A]]
    is_given_up: bool = False


class Batcher(Generic[A]):
    """The queue and its workers; knows lanes, not what runs in them.

    Args:
        pool: Where batches run.
        manifest: Contract of the model.
        counters: Where requests are counted.
        rules: When a batch is complete and when the queue is full.
        workers: Threads that gather and run batches.
        release: Called with each sample once it is answered and not read any more.
    """

    def __init__(
        self,
        pool: LanePool,
        manifest: Manifest,
        counters: Counters,
        rules: BatchRules,
        workers: int,
        release: Callable[[Sample], None],
    ) -> None:
        self._pool = pool
        self._manifest = manifest
        self._counters = counters
        self._rules = rules
        self._workers = workers
        self._release = release
        self._threads: list[threading.Thread] = []
        self._callbacks = CallbackThreads(workers)
        self._queue: deque[_Request[A]] = deque()
        self._reserved: set[object] = set()  # places of callers that still check their pixels
        self._expired: list[_Request[A]] = []  # until they are resolved, without the lock
        # Looking at every request costs more than all the rest of a refusal, so it is only done
        # where one was cancelled or a deadline has passed.
        self._any_cancelled = False
        self._next_deadline_s = math.inf
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)
        self._space = threading.Condition(self._lock)
        self._gathering = threading.Lock()
        self._runs: set[_Run[A]] = set()
        self._under_way = 0  # batches taken whose requests are not all answered yet
        self._closing = False

    @property
    def queued(self) -> int:
        """Requests that wait now."""
        return len(self._queue)

    def put(
        self, sample_of: Callable[[], Sample], *, wait: bool = False, deadline_s: float = math.inf
    ) -> Future[A]:
        """Queue a sample.

        Args:
            sample_of: Returns a checked sample, whose arrays must not change any more. Called once
                there is a place for it.
            wait: Wait for a place in a full queue instead of refusing.
            deadline_s: `time.monotonic` at which the answer is no longer wanted.

        Raises:
            Overloaded: The queue is full and ``wait`` is False.
            ClosedError: The batcher is closed.
        """
        place = object()
        try:
            self._reserve(place, wait)
            return self._fill(place, sample_of(), deadline_s)
        except BaseException:
            self._withdraw(place)
            raise

    def give_up(self, limit_s: float) -> int:
        """Fail the requests of batches that have been in a lane for longer than ``limit_s``.

        Returns:
            Such batches, also those that were given up before.
        """
        began_before_s = time.monotonic() - limit_s
        with self._lock:
            hung = [run for run in self._runs if run.started_s < began_before_s]
            fresh = [run for run in hung if not run.is_given_up]
            for run in fresh:
                run.is_given_up = True
        for request in (request for run in fresh for request in run.batch):
            self._counters.failed()
            _resolve(
                request.future,
                BackendError(
                    f"the backend has not answered for {limit_s:g} s",
                    hint="Restart the process; what hangs in a device cannot be ended otherwise",
                    action=Remedy.RESTART,
                ),
            )
        return len(hung)

    def close(self, *, drain: bool, timeout_s: float) -> None:
        """Stop taking requests; answer those that wait, or cancel them. Idempotent.

        What is still queued after the timeout is cancelled; a thread that hangs in the backend is
        left behind.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._closing = True
            self._arrived.notify_all()
            self._space.notify_all()
            threads = [t for t in self._threads if t is not threading.current_thread()]
        if not drain:
            self._cancel_queued()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._cancel_queued()
        self._resolve_expired()
        self._callbacks.close(deadline - time.monotonic())

    def _reserve(self, place: object, wait: bool) -> None:
        self._counters.submitted(1)
        with self._lock:
            try:
                self._await_place(wait)
                self._start_workers()
            except BaseException:
                self._counters.rejected()
                raise
            self._reserved.add(place)

    def _withdraw(self, place: object) -> None:
        """Give up a place, if it is still reserved: there is nothing to run after all."""
        with self._lock:
            if place in self._reserved:
                self._reserved.remove(place)
                self._counters.submitted(-1)
                self._space.notify()

    def _fill(self, place: object, sample: Sample, deadline_s: float) -> Future[A]:
        """Turn a reserved place into a request."""
        with self._lock:
            self._reserved.remove(place)
            now = time.monotonic()
            ready = now + self._rules.max_delay_s
            future: Answer[A] = Answer(self._callbacks, self._note_cancelled)
            request: _Request[A] = _Request(
                sample, future, now, deadline_s, ready if deadline_s > ready else now
            )
            if self._closing:  # since the place was reserved; the workers may have ended
                self._cancel([request])
                return request.future
            self._queue.append(request)
            self._next_deadline_s = min(self._next_deadline_s, deadline_s)
            if len(self._queue) in (1, self._rules.max_batch) or request.ready_s == now:
                self._arrived.notify()
        return request.future

    def _is_full(self) -> bool:
        return len(self._queue) + len(self._reserved) >= self._rules.queue_size

    def _await_place(self, wait: bool) -> None:
        if self._is_full():
            self._drop_dead()
        if wait:
            self._space.wait_for(lambda: self._closing or not self._is_full())
        if self._closing:
            raise ClosedError("the model was closed")
        if self._is_full():
            raise Overloaded(
                f"{self._rules.queue_size} requests are waiting, the most that queue_size allows",
                hint="Submit slower, give deadlines, or raise queue_size",
            )

    def _start_workers(self) -> None:
        while len(self._threads) < self._workers:
            name = f"esccs-edge-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more threads
                if self._threads:
                    return  # those that run will do; the next request tries again
                raise Overloaded(
                    "this system starts no thread that could answer the request",
                    hint="Look at the limits of this user and of its container (ulimit -u, pids)",
                ) from error
            self._threads.append(thread)

    def _work(self) -> None:
        while True:
            with self._gathering:
                if not self._await_batch():
                    return
                try:
                    lane = self._await_lane()
                except Exception as error:
                    self._fail_batch(as_backend_error(error))
                    continue
                batch = self._take_batch() if lane else []
                self._count_under_way(1)
            if lane and batch:
                self._run(lane, batch)
            elif lane:
                self._pool.release(lane)
            self._count_under_way(-1)

    def _await_batch(self) -> bool:
        """Wait until a batch is due; False when closed and nothing is left."""
        with self._lock:
            self._arrived.wait_for(lambda: self._queue or self._closing)
            while self._queue and not self._closing:
                if len(self._queue) >= self._rules.max_batch or not self._under_way:
                    break
                rest = min(request.ready_s for request in self._queue) - time.monotonic()
                if rest <= 0:
                    break
                self._arrived.wait(rest)
            return bool(self._queue) or not self._closing

    def _await_lane(self) -> Lane | None:
        """Wait for a free lane; None when meanwhile every request expired or was cancelled."""
        ticket = self._pool.take_ticket()
        try:
            while (lane := self._pool.await_lane(ticket, DEADLINE_CHECK_S)) is None:
                with self._lock:
                    self._drop_dead()
                    is_empty = not self._queue
                self._resolve_expired()
                if is_empty:
                    return None
            return lane
        finally:
            self._pool.drop(ticket)

    def _take_batch(self) -> list[_Request[A]]:
        batch: list[_Request[A]] = []
        with self._lock:
            self._drop_dead()
            while self._queue and len(batch) < self._rules.max_batch:
                request = self._queue.popleft()
                if request.future.set_running_or_notify_cancel():
                    batch.append(request)
                else:
                    self._counters.cancelled()
            self._space.notify_all()
        self._resolve_expired()
        return batch

    def _run(self, lane: Lane, batch: list[_Request[A]]) -> None:
        answers: list[A | EsccsError]
        run = _Run(time.monotonic(), batch)
        with self._lock:
            self._runs.add(run)
        try:
            answers = BatchRun[A](
                self._pool, lane, [request.sample for request in batch], self._manifest
            ).answers()
        except BaseException as error:  # a backend that ends the thread must not end the queue
            self._pool.reclaim()
            answers = [as_backend_error(error) for _ in batch]
        now = time.monotonic()
        with self._lock:
            self._runs.discard(run)
            if run.is_given_up:
                return
        self._counters.answered(answers, [now - request.enqueued_s for request in batch])
        for request, answer in zip(batch, answers, strict=True):
            if not isinstance(answer, EsccsError):  # else a hanging device may yet read the pixels
                self._release(request.sample)
            _resolve(request.future, answer)

    def _count_under_way(self, change: int) -> None:
        with self._lock:
            self._under_way += change
            self._arrived.notify()  # with none under way, requests do not wait for others

    def _note_cancelled(self) -> None:
        self._any_cancelled = True

    def _drop_dead(self) -> None:
        """Remove requests that were cancelled or whose deadline has passed."""
        now = time.monotonic()
        if not self._any_cancelled and now < self._next_deadline_s:
            return
        self._any_cancelled = False  # first, since a request cancelled from here on sets it again
        self._next_deadline_s = math.inf
        alive: deque[_Request[A]] = deque()
        for request in self._queue:
            if request.future.cancelled():
                request.future.set_running_or_notify_cancel()
                self._counters.cancelled()
            elif request.deadline_s <= now:
                self._expired.append(request)
            else:
                self._next_deadline_s = min(self._next_deadline_s, request.deadline_s)
                alive.append(request)
        if len(alive) < len(self._queue):
            self._queue = alive
            self._space.notify_all()

    def _resolve_expired(self) -> None:
        """Resolve what expired."""
        with self._lock:
            expired, self._expired = self._expired, []
        for request in expired:
            if not request.future.set_running_or_notify_cancel():
                self._counters.cancelled()
                continue
            self._counters.failed()
            waited_ms = (time.monotonic() - request.enqueued_s) * 1e3
            _resolve(
                request.future,
                DeadlineExceeded(
                    f"the request waited {waited_ms:.1f} ms and its deadline passed before it ran",
                    hint="Allow more time, submit slower, or use a smaller max_delay_ms",
                ),
            )

    def _fail_batch(self, error: EsccsError) -> None:
        for request in self._take_batch():
            self._counters.failed()
            _resolve(request.future, error)

    def _cancel_queued(self) -> None:
        with self._lock:
            queue, self._queue = self._queue, deque()
        self._cancel(queue)

    def _cancel(self, requests: Iterable[_Request[A]]) -> None:
        for request in requests:
            request.future.cancel()
            request.future.set_running_or_notify_cancel()
            self._counters.cancelled()


def _resolve(future: Answer[A], answer: A | EsccsError) -> None:
    with suppress(InvalidStateError):  # settled by the caller, who was not to
        if isinstance(answer, EsccsError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
