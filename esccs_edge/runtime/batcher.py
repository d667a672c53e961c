"""Requests of many threads -> batches: a bounded queue and a few worker threads.

One worker at a time gathers. While another batch is under way it waits for the queue to fill or
for the oldest request to have waited long enough; then for a free lane; and only then it takes what
is queued. So a request that comes alone is answered at once, and a busy backend makes larger
batches by itself. There is one worker more than lanes, so that somebody is always free to let
deadlines expire, even while every lane hangs.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from ..backends.base import Lane
from ..contracts.manifest import Manifest
from ..contracts.values import PatchPair, Prediction
from ..errors import ClosedError, DeadlineExceeded, EsccsError, Overloaded
from .counters import Counters
from .lane_pool import Flight, LanePool, as_backend_error
from .postprocess import Answer

#: How often queued deadlines are looked at while every lane is busy.
DEADLINE_CHECK_S = 0.02

_log = logging.getLogger("esccs_edge.runtime")


@dataclass(frozen=True)
class BatchRules:
    """When a batch is complete and when a queue is full.

    Attributes:
        max_batch: Most pairs in a batch.
        max_delay_s: Longest wait of a request for company, while another batch is under way.
        queue_size: Most requests that wait.
    """

    max_batch: int
    max_delay_s: float
    queue_size: int


@dataclass(frozen=True, eq=False)
class _Request:
    pair: PatchPair
    future: Future[Prediction]
    enqueued_s: float
    deadline_s: float
    ready_s: float  # when it stops waiting for company


class Batcher:
    """The queue and its workers; knows lanes, not what runs in them."""

    def __init__(
        self,
        pool: LanePool,
        manifest: Manifest,
        counters: Counters,
        rules: BatchRules,
        workers: int,
        let_go: Callable[[PatchPair], None],
    ) -> None:
        self._pool = pool
        self._manifest = manifest
        self._counters = counters
        self._rules = rules
        self._workers = workers
        self._let_go = let_go
        self._threads: list[threading.Thread] = []
        self._queue: deque[_Request] = deque()
        self._late: list[_Request] = []  # expired, to be told so outside the lock
        # Looking at every request costs more than all the rest of a refusal; these tell when to.
        self._somebody_cancelled = False
        self._next_deadline_s = math.inf
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)
        self._space = threading.Condition(self._lock)
        self._gathering = threading.Lock()
        self._under_way = 0  # batches taken whose requests are not all answered yet
        self._closing = False

    @property
    def queued(self) -> int:
        """Requests that wait now."""
        return len(self._queue)

    def refuse_when_full(self) -> None:
        """Refuse what would find no place anyway, before the price of its copy is paid.

        Raises:
            Overloaded: The queue is full.
            ClosedError: The batcher is closed.
        """
        if len(self._queue) < self._rules.queue_size and not self._closing:
            return  # as nearly always; `put` looks again, under the lock
        with self._lock:
            try:
                self._claim_place(wait=False)
            except BaseException:
                self._counters.submitted(1)
                self._counters.rejected()
                raise

    def put(
        self, pair: PatchPair, *, deadline_s: float = math.inf, wait: bool
    ) -> Future[Prediction]:
        """Queue a pair, whose arrays must not change any more.

        Args:
            pair: A checked pair.
            deadline_s: `time.monotonic` at which the answer is no longer wanted.
            wait: Wait for a place in a full queue instead of refusing.

        Raises:
            Overloaded: The queue is full and ``wait`` is False.
            ClosedError: The batcher is closed.
        """
        self._counters.submitted(1)
        with self._lock:
            try:
                self._claim_place(wait)
                self._start_workers()
            except BaseException:
                self._counters.rejected()
                raise
            now = time.monotonic()
            ready = now + self._rules.max_delay_s
            request = _Request(
                pair, Future(), now, deadline_s, ready if deadline_s > ready else now
            )
            request.future.add_done_callback(self._note_cancelled)
            self._queue.append(request)
            self._next_deadline_s = min(self._next_deadline_s, deadline_s)
            if len(self._queue) in (1, self._rules.max_batch) or request.ready_s == now:
                self._arrived.notify()
        return request.future

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
        self._tell_late()

    def _claim_place(self, wait: bool) -> None:
        full = self._rules.queue_size
        if len(self._queue) >= full:
            self._drop_dead()
        if wait:
            self._space.wait_for(lambda: self._closing or len(self._queue) < full)
        if self._closing:
            raise ClosedError("the classifier was closed")
        if len(self._queue) >= full:
            raise Overloaded(
                f"{full} requests are waiting, the most that queue_size allows",
                hint="Submit slower, give deadlines, or raise queue_size",
            )

    def _start_workers(self) -> None:
        while len(self._threads) < self._workers:
            name = f"esccs-edge-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            thread.start()
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
        place = self._pool.line_up()
        try:
            while (lane := self._pool.await_lane(place, DEADLINE_CHECK_S)) is None:
                with self._lock:
                    self._drop_dead()
                    is_empty = not self._queue
                self._tell_late()
                if is_empty:
                    return None
            return lane
        finally:
            self._pool.leave(place)

    def _take_batch(self) -> list[_Request]:
        batch: list[_Request] = []
        with self._lock:
            self._drop_dead()
            while self._queue and len(batch) < self._rules.max_batch:
                request = self._queue.popleft()
                if request.future.set_running_or_notify_cancel():
                    batch.append(request)
                else:
                    self._counters.cancelled()
            self._space.notify_all()
        self._tell_late()
        return batch

    def _run(self, lane: Lane, batch: list[_Request]) -> None:
        answers: list[Answer]
        try:
            answers = Flight(self._pool, lane, [r.pair for r in batch], self._manifest).land()
        except BaseException as error:  # a backend that ends the thread must not end the queue
            self._pool.reclaim()
            answers = [as_backend_error(error) for _ in batch]
        now = time.monotonic()
        self._counters.answered(answers, [now - request.enqueued_s for request in batch])
        for request, answer in zip(batch, answers, strict=True):
            if not isinstance(answer, EsccsError):  # else a hanging device may yet read the pair
                self._let_go(request.pair)
            _resolve(request.future, answer)

    def _count_under_way(self, change: int) -> None:
        with self._lock:
            self._under_way += change
            self._arrived.notify()  # with none under way, what waits for company need not wait on

    def _note_cancelled(self, future: Future[Prediction]) -> None:
        if future.cancelled():
            self._somebody_cancelled = True

    def _drop_dead(self) -> None:
        """Remove requests that were cancelled or whose deadline has passed."""
        now = time.monotonic()
        if not self._somebody_cancelled and now < self._next_deadline_s:
            return
        self._somebody_cancelled = False  # first: who cancels from here on sets it again
        self._next_deadline_s = math.inf
        alive: deque[_Request] = deque()
        for request in self._queue:
            if request.future.cancelled():
                request.future.set_running_or_notify_cancel()
                self._counters.cancelled()
            elif request.deadline_s <= now:
                self._late.append(request)
            else:
                self._next_deadline_s = min(self._next_deadline_s, request.deadline_s)
                alive.append(request)
        if len(alive) < len(self._queue):
            self._queue = alive
            self._space.notify_all()

    def _tell_late(self) -> None:
        """Resolve what expired; without the lock, since callbacks of futures run here."""
        with self._lock:
            late, self._late = self._late, []
        for request in late:
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
        for request in queue:
            request.future.cancel()
            request.future.set_running_or_notify_cancel()
            self._counters.cancelled()


def _resolve(future: Future[Prediction], answer: Answer) -> None:
    try:
        if isinstance(answer, EsccsError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
    except BaseException:  # a caller's callback must not take the answers of others with it
        _log.exception("a callback of a future raised")
