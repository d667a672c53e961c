"""Callbacks of futures run apart from what answers, so that none can hold up answers or each other.

A callback is the caller's code: it may wait for another answer of the same model, block for ever or
raise. In a thread that answers, it would stop whatever comes after it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

A = TypeVar("A")

#: A callback that runs for longer than this is not waited for by the next ones.
PATIENCE_S = 0.02

_log = logging.getLogger("esccs_edge.runtime")


class CallbackThreads:
    """Begins calls in the order of arrival: in few threads, and in more while calls block.

    Up to ``usual`` calls are under way at once, and one more whenever none has returned for
    `PATIENCE_S`. There is one thread more than calls, which looks after that.

    Args:
        usual: Calls that may be under way at once in any case.
    """

    def __init__(self, usual: int) -> None:
        self._usual = usual
        self._calls: deque[Callable[[], Any]] = deque()
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._under_way = 0
        self._returned_s = 0.0  # when the last call returned or was begun
        self._closers = 0  # calls under way that wait in `close` for the others
        self._closing = False

    def put(self, call: Callable[[], Any]) -> None:
        """Have a call run soon; here and now where no thread can be started any more."""
        with self._changed:
            self._calls.append(call)
            self._changed.notify()
            if self._idle or self._start_thread() or self._threads:
                return
        self._run_all()

    def close(self, timeout_s: float) -> None:
        """Wait until all calls have returned, but for one that this is called from; then end.

        Calls that block longer are left behind.
        """
        with self._changed:
            self._closers += threading.current_thread() in self._threads
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: not self._calls and self._under_way <= self._closers, max(0.0, timeout_s)
            )

    @property
    def _idle(self) -> int:
        return len(self._threads) - self._under_way

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._work, name="esccs-edge-callbacks", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads, or the interpreter ends
            return False
        self._threads.add(thread)
        return True

    def _work(self) -> None:
        while (call := self._next()) is not None:
            _run(call)
            call = None  # else what it refers to lives on while this thread waits
            with self._changed:
                self._under_way -= 1
                self._returned_s = time.monotonic()
                self._changed.notify_all()

    def _next(self) -> Callable[[], Any] | None:
        """Wait for a call that may begin; None when closed and nothing is left."""
        with self._changed:
            while not (self._calls and self._may_begin()):
                is_spare = self._idle > self._usual + 1  # left of calls that blocked
                if not self._calls and (self._closing or is_spare):
                    self._threads.discard(threading.current_thread())
                    return None
                self._changed.wait(PATIENCE_S if self._calls else None)
            self._under_way += 1
            self._returned_s = time.monotonic()
            call = self._calls.popleft()
            if self._calls and not self._idle:
                self._start_thread()
            return call

    def _may_begin(self) -> bool:
        return self._under_way < self._usual or time.monotonic() - self._returned_s >= PATIENCE_S

    def _run_all(self) -> None:
        while self._calls:
            _run(self._calls.popleft())


class Answer(Future[A]):
    """A future whose callbacks run in `CallbackThreads`, whoever settles or cancels it.

    Args:
        threads: Where they run.
        cancelled: Called at once when a waiting request is cancelled.
    """

    def __init__(self, threads: CallbackThreads, cancelled: Callable[[], None]) -> None:
        super().__init__()
        self._threads = threads
        self._note_cancelled = cancelled
        self._callbacks: list[Callable[[Future[A]], Any]] | None = []  # None once handed over
        self._handing_over = threading.Lock()

    def add_done_callback(self, fn: Callable[[Future[A]], Any]) -> None:
        """Have ``fn(self)`` run once there is an answer; at once if there is one already."""
        with self._handing_over:
            if self._callbacks is not None:
                self._callbacks.append(fn)
                return
        super().add_done_callback(fn)

    def set_result(self, result: A) -> None:
        """Settle; called by what answers."""
        super().set_result(result)
        self._hand_over()

    def set_exception(self, exception: BaseException | None) -> None:
        """Settle by an error; called by what answers."""
        super().set_exception(exception)
        self._hand_over()

    def cancel(self) -> bool:
        """Take a request that waits out of the queue; False if it has begun or is answered."""
        if not super().cancel():
            return False
        self._note_cancelled()
        self._hand_over()
        return True

    def _hand_over(self) -> None:
        with self._handing_over:
            callbacks, self._callbacks = self._callbacks, None
        if callbacks:
            self._threads.put(partial(_run_each, [partial(call, self) for call in callbacks]))


def _run_each(calls: Iterable[Callable[[], Any]]) -> None:
    for call in calls:
        _run(call)


def _run(call: Callable[[], Any]) -> None:
    try:
        call()
    except BaseException:  # of one caller, and not to end the thread of the others' callbacks
        _log.exception("a callback of a future raised")
