"""Spread the runs of a comparison over processes, each with as few seeds as can be.

A seed's shared networks come first, then its methods, one at a time. A process stays on its seed
while there is work, takes a new seed next, and helps with another's when there is none left. So
no core waits for the last seed, and data are read and clouds drawn about once per seed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import Pipe, connection, get_context, parent_process


@dataclass(frozen=True)
class WorkItem:
    """A piece of work.

    Attributes:
        seed: Of the run.
        method: What to run; None for the networks that the seed's methods share.
    """

    seed: int
    method: str | None


class Queue:
    """What is left to do, in a good order.

    Args:
        missing: Seed -> methods to run.
    """

    def __init__(self, missing: Mapping[int, Sequence[str]]) -> None:
        self._waiting = {seed: list(names) for seed, names in missing.items() if names}
        self._ready: dict[int, list[str]] = {}

    def take(self, last: int | None = None) -> WorkItem | None:
        """Return the next item for a process that last worked on a seed; None: nothing for now."""
        if last is not None and self._ready.get(last):
            return WorkItem(last, self._ready[last].pop(0))
        for seed in self._waiting:
            if seed not in self._ready:
                self._ready[seed] = []  # nothing yet: its shared networks come first
                return WorkItem(seed, None)
        left = [seed for seed, names in self._ready.items() if names]
        if not left:
            return None
        longest = max(left, key=lambda seed: len(self._ready[seed]))
        return WorkItem(longest, self._ready[longest].pop(0))

    def finish(self, item: WorkItem) -> None:
        """Mark an item as done; the methods of a seed may run once its shared networks are."""
        if item.method is None:
            self._ready[item.seed] = self._waiting[item.seed]


def work_off(
    missing: Mapping[int, Sequence[str]], work: Callable[[WorkItem], None], jobs: int
) -> None:
    """Do all items: here if ``jobs`` is 1, else in that many processes.

    Args:
        missing: Seed -> methods to run.
        work: Does one item; picklable.
        jobs: Number of processes.
    """
    queue = Queue(missing)
    if jobs == 1:
        last = None
        while (item := queue.take(last)) is not None:
            work(item)
            queue.finish(item)
            last = item.seed
        return
    ended, end = Pipe(duplex=False)
    with ended, end, ExitStack() as stack:
        processes = [
            stack.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), _end_with_parent, (ended,))
            )
            for _ in range(jobs)
        ]
        try:
            _spread(queue, work, processes)
        except BaseException:
            end.close()  # else leaving the executors would wait for the work under way, for hours
            raise


def _spread(
    queue: Queue, work: Callable[[WorkItem], None], processes: Sequence[ProcessPoolExecutor]
) -> None:
    last: dict[int, int | None] = dict.fromkeys(range(len(processes)))
    running: dict[Future[None], tuple[int, WorkItem]] = {}
    while True:
        for number in sorted(last.keys() - {number for number, _ in running.values()}):
            if (item := queue.take(last[number])) is not None:
                running[processes[number].submit(work, item)] = number, item
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            number, item = running.pop(future)
            future.result()
            queue.finish(item)
            last[number] = item.seed


def _end_with_parent(ended: connection.Connection) -> None:
    """End a process when the comparison was stopped or killed.

    Args:
        ended: Its other end is closed when the comparison stops before its work is done.
    """
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel, ended])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
