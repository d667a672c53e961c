"""A fixed crew of threads that shares out the parts of a batch.

Daemon threads of our own: those of the standard library's executors refuse work while the
interpreter ends, when requests that were accepted are still to be answered.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple[Future[Any], Callable[[], Any]]


class Crew:
    """So many threads, started when there is work for the first time. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()

    def share(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Run calls, as many at once as there are threads, and return their results in order.

        None of them runs any more when this ends, however it ends. The first error is raised.
        """
        self._start()
        futures: list[Future[T]] = [Future() for _ in calls]
        try:
            for job in zip(futures, calls, strict=True):
                self._jobs.put(job)
            wait(futures)
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)
            raise
        return [future.result() for future in futures]

    def close(self) -> None:
        """Let the threads end after the work that they have. Idempotent."""
        with self._starting:
            for _ in self._threads:
                self._jobs.put(None)
            for thread in self._threads:
                thread.join()
            self._threads.clear()

    def _start(self) -> None:
        with self._starting:
            while len(self._threads) < self._size:
                name = f"esccs-edge-cpu-{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                thread.start()
                self._threads.append(thread)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
