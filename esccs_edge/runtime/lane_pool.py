"""The lanes of a backend as a pool, and one batch's flight over a lane with its second chance.

Whoever holds a lane must give it back: a `Flight` does so when it lands, and a thread that was
interrupted on the way calls `LanePool.reclaim`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..backends.base import Backend, Lane
from ..contracts.manifest import Manifest
from ..contracts.values import PatchPair
from ..errors import BackendError, ClosedError, EsccsError
from .postprocess import Answer, predictions


class LanePool:
    """A fixed number of lanes, lent to one thread at a time, first come, first served.

    Without the line a thread with many batches would take back the lane that it has just returned,
    before a waiting thread even wakes.
    """

    def __init__(self, backend: Backend, lanes: int) -> None:
        self._backend = backend
        self._lanes = lanes
        self._changed = threading.Condition()
        self._idle: list[Lane] = [backend.open_lane() for _ in range(lanes)]
        self._lent: dict[Lane, int] = {}  # to the thread of this number
        self._opening = 0
        self._line: deque[Place] = deque()
        self._closed = False

    @property
    def lent(self) -> int:
        """Lanes that are at work now."""
        return len(self._lent)

    def acquire(self, *, wait: bool = True) -> Lane | None:
        """Borrow a lane; without ``wait``, None when none is free or somebody waits already.

        Raises:
            ClosedError: The pool is or was closed while waiting.
            BackendError: A lane had to be opened anew and could not be.
        """
        place = self.line_up()
        try:
            return self.await_lane(place, None if wait else 0.0)
        finally:
            self.leave(place)

    def line_up(self) -> Place:
        """Take a place in the line for a lane; `leave` must follow."""
        place = Place(threading.get_ident())
        with self._changed:
            self._line.append(place)
        return place

    def await_lane(self, place: Place, timeout_s: float | None) -> Lane | None:
        """Wait until it is the place's turn and a lane is free; None when time runs out first.

        Raises:
            ClosedError: The pool is or was closed while waiting.
            BackendError: A lane had to be opened anew and could not be.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._may_borrow(place), timeout_s):
                return None
            if self._closed:
                raise ClosedError("the classifier was closed")
            if self._idle:
                lane = self._idle[-1]
                self._lent[lane] = place.thread
                self._idle.pop()
                return lane
            self._opening += 1
        return self._open_anew(place)

    def leave(self, place: Place) -> None:
        """Give up a place, with or without a lane."""
        with self._changed:
            self._line.remove(place)
            if self._line:
                self._changed.notify_all()

    def release(self, lane: Lane) -> None:
        """Give a lane back."""
        if self._closed:  # too late for close() to see it
            lane.close()
        with self._changed:
            if self._lent.pop(lane, None) is not None:
                self._idle.append(lane)
            self._changed.notify_all()

    def discard(self, lane: Lane) -> None:
        """Give back a lane whose state is unknown; a new one takes its place when needed."""
        try:
            with suppress(EsccsError):  # what failed before is what counts
                lane.close()
        finally:
            with self._changed:
                self._lent.pop(lane, None)
                if lane in self._idle:
                    self._idle.remove(lane)
                self._changed.notify_all()

    def reclaim(self) -> None:
        """Discard whatever this thread has borrowed and give up its places in the line.

        For a thread that was interrupted, perhaps between two lines of this very class.
        """
        me = threading.get_ident()
        with self._changed:
            for place in [place for place in self._line if place.thread == me]:
                self._line.remove(place)
            mine = [lane for lane, thread in self._lent.items() if thread == me]
        for lane in mine:
            self.discard(lane)

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

    def _may_borrow(self, place: Place) -> bool:
        # Counted, not remembered, so that a lane lost to an interrupt is replaced.
        missing = self._lanes - len(self._idle) - len(self._lent) - self._opening
        return self._closed or (bool(self._idle) or missing > 0) and self._line[0] is place

    def _open_anew(self, place: Place) -> Lane:
        lane: Lane | None = None
        try:
            lane = self._backend.open_lane()
            return lane
        finally:
            with self._changed:
                self._opening -= 1
                if lane is not None:
                    self._lent[lane] = place.thread
                self._changed.notify_all()


@dataclass(frozen=True, eq=False)
class Place:
    """A thread's place in the line for a lane."""

    thread: int


class Flight:
    """One batch on one borrowed lane, from start to answers.

    A batch that fails is run once more; if it fails again, its pairs run one by one, so that a
    pair which breaks the backend fails alone. Answers of a second try carry `Flag.RETRIED`. There
    is no second try once the backend says that only a new process helps.
    """

    def __init__(
        self,
        pool: LanePool,
        lane: Lane,
        batch: Sequence[PatchPair],
        manifest: Manifest,
    ) -> None:
        self.batch = batch
        self._pool = pool
        self._lane = lane
        self._manifest = manifest
        self._start_error: Exception | None = None
        try:
            lane.start(batch)
        except Exception as error:  # judged in land(), where the second chance is given
            self._start_error = error

    def land(self) -> list[Answer]:
        """Wait for the answers, one per pair in order, and give the lane back."""
        try:
            answers = self._answers()
        except Exception:
            self._pool.discard(self._lane)
            raise
        self._pool.release(self._lane)
        return answers

    def _answers(self) -> list[Answer]:
        try:
            if self._start_error is not None:
                raise self._start_error
            return predictions(self._lane.finish(), self.batch, self._manifest)
        except Exception as error:
            if _is_final(error):
                return [as_backend_error(error)] * len(self.batch)
            return self._again()

    def _again(self) -> list[Answer]:
        try:
            return self._attempt(self.batch)
        except Exception as error:
            if len(self.batch) == 1 or _is_final(error):
                return [as_backend_error(error)] * len(self.batch)
        return [self._alone(pair) for pair in self.batch]

    def _alone(self, pair: PatchPair) -> Answer:
        try:
            return self._attempt([pair])[0]
        except Exception as error:
            return as_backend_error(error)

    def _attempt(self, batch: Sequence[PatchPair]) -> list[Answer]:
        return predictions(self._lane.answer(batch), batch, self._manifest, retried=True)


def _is_final(error: Exception) -> bool:
    """Tell whether nothing that this process computes on the device could be trusted."""
    return isinstance(error, BackendError) and error.action == "restart"


def as_backend_error(error: BaseException) -> EsccsError:
    """Return the error itself if it is ours, else a `BackendError` that names it."""
    if isinstance(error, EsccsError):
        return error
    wrapped = BackendError(f"the backend raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
