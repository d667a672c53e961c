"""The lanes of a backend as a pool: lent in turn, opened again where one was lost.

A borrowed lane must be given back: a `BatchRun` does so with its answers, and a thread that was
interrupted on the way calls `LanePool.reclaim`.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from ..backends.base import Backend, Lane
from ..errors import ClosedError, EsccsError


class LanePool:
    """A fixed number of lanes, each lent to one thread at a time, first come, first served.

    Without tickets a thread with many batches would take back the lane that it has just returned,
    before a waiting thread even wakes.
    """

    def __init__(self, backend: Backend, lanes: int) -> None:
        self._backend = backend
        self._lanes = lanes
        self._changed = threading.Condition()
        self._idle: list[Lane] = [backend.open_lane() for _ in range(lanes)]
        self._lent: dict[Lane, int] = {}  # lane -> number of the thread that has it
        self._outdated: set[Lane] = set()  # lent, of a backend that was replaced since
        self._opening = 0
        self._waiting: deque[Ticket] = deque()
        self._closed = False

    def acquire(self, *, wait: bool = True) -> Lane | None:
        """Borrow a lane; without ``wait``, None when none is free or another thread waits already.

        Raises:
            ClosedError: The pool is or was closed while waiting.
            BackendError: A lane had to be opened anew and could not be.
        """
        ticket = self.take_ticket()
        try:
            return self.await_lane(ticket, None if wait else 0.0)
        finally:
            self.drop(ticket)

    def take_ticket(self) -> Ticket:
        """Join the threads that wait for a lane; `drop` must follow."""
        ticket = Ticket(threading.get_ident())
        with self._changed:
            self._waiting.append(ticket)
        return ticket

    def await_lane(self, ticket: Ticket, timeout_s: float | None) -> Lane | None:
        """Wait until it is the ticket's turn and a lane is free; None when time runs out first.

        Raises:
            ClosedError: The pool is or was closed while waiting.
            BackendError: A lane had to be opened anew and could not be.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._may_borrow(ticket), timeout_s):
                return None
            if self._closed:
                raise ClosedError("the model was closed")
            if self._idle:
                lane = self._idle[-1]
                self._lent[lane] = ticket.thread
                self._idle.pop()
                return lane
            self._opening += 1
        return self._open_anew(ticket)

    def drop(self, ticket: Ticket) -> None:
        """Give up a ticket, with or without a lane."""
        with self._changed:
            self._waiting.remove(ticket)
            if self._waiting:
                self._changed.notify_all()

    def release(self, lane: Lane) -> None:
        """Give a lane back."""
        if self._closed or lane in self._outdated:  # too late for who closes idle lanes to see it
            lane.close()
        with self._changed:
            if self._lent.pop(lane, None) is not None and lane not in self._outdated:
                self._idle.append(lane)
            self._outdated.discard(lane)
            self._changed.notify_all()

    def discard(self, lane: Lane) -> None:
        """Give back a lane whose state is unknown; a new one takes its place when needed."""
        try:
            with suppress(EsccsError):  # what failed before is what counts
                lane.close()
        finally:
            with self._changed:
                self._lent.pop(lane, None)
                self._outdated.discard(lane)
                if lane in self._idle:
                    self._idle.remove(lane)
                self._changed.notify_all()

    def reclaim(self) -> None:
        """Discard all lanes that this thread has borrowed, and drop its tickets.

        For a thread that was interrupted at an unknown place, perhaps inside this class.
        """
        me = threading.get_ident()
        with self._changed:
            for ticket in [ticket for ticket in self._waiting if ticket.thread == me]:
                self._waiting.remove(ticket)
            mine = [lane for lane, thread in self._lent.items() if thread == me]
        for lane in mine:
            self.discard(lane)

    def renew(self, backend: Backend, timeout_s: float) -> None:
        """Open lanes on another backend from now on; the former is closed once its lanes are back.

        Args:
            backend: Takes as large batches as the former.
            timeout_s: A backend that keeps a lane for longer is left behind.

        Raises:
            ClosedError: After `close`.
        """
        with self._changed:
            if self._closed:
                raise ClosedError("the model was closed")
            former, self._backend = self._backend, backend
            idle, self._idle = self._idle, []
            outdated = set(self._lent)
            self._outdated |= outdated
            self._changed.notify_all()
        for lane in idle:
            lane.close()
        with self._changed:
            all_back = self._changed.wait_for(lambda: not outdated & self._outdated, timeout_s)
        if all_back:
            former.close()

    def close_backend(self) -> None:
        """Close the backend of today; all lanes must be back."""
        self._backend.close()

    def close(self, timeout_s: float) -> bool:
        """Wait for lent lanes and close all; False if some did not come back in time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._lent and not self._opening, timeout_s)
            all_back = not self._lent and not self._opening
            idle, self._idle = self._idle, []
        for lane in idle:
            lane.close()
        return all_back

    def _may_borrow(self, ticket: Ticket) -> bool:
        # Derived from the other three counts, so that a lane lost to an interrupt counts as missing
        # and is opened again.
        missing = self._lanes - len(self._idle) - len(self._lent) - self._opening
        return self._closed or (bool(self._idle) or missing > 0) and self._waiting[0] is ticket

    def _open_anew(self, ticket: Ticket) -> Lane:
        lane: Lane | None = None
        try:
            lane = self._backend.open_lane()
            return lane
        finally:
            with self._changed:
                self._opening -= 1
                if lane is not None:
                    self._lent[lane] = ticket.thread
                self._changed.notify_all()


@dataclass(frozen=True, eq=False)
class Ticket:
    """A thread's turn among those that wait for a lane."""

    thread: int
