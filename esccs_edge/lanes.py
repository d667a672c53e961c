"""The lanes of a backend as a pool, and one batch's flight over a lane with its second chance.

Whoever holds a lane must give it back: a `Flight` does so on every way out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from .backend import Backend, Lane, LaneOutput
from .errors import BackendError, ClosedError, EsccsError
from .manifest import Manifest
from .postprocess import Answer, predictions
from .scene import ScenePair


class LanePool:
    """A fixed number of lanes, lent to one thread at a time."""

    def __init__(self, backend: Backend, lanes: int) -> None:
        self._backend = backend
        self._returned = threading.Condition()
        self._idle: list[Lane] = [backend.open_lane() for _ in range(lanes)]
        self._missing = 0  # discarded lanes, opened anew when next needed
        self._lent = 0
        self._closed = False

    def acquire(self, timeout_s: float | None = None) -> Lane | None:
        """Borrow a lane, waiting until one is free; None when the timeout passes first.

        Raises:
            ClosedError: The pool is or was closed while waiting.
            BackendError: A lane had to be opened anew and could not be.
        """
        with self._returned:
            if not self._returned.wait_for(self._is_ready, timeout_s):
                return None
            if self._closed:
                raise ClosedError("the classifier was closed")
            self._lent += 1
            if self._idle:
                return self._idle.pop()
            self._missing -= 1
        return self._open_anew()

    def release(self, lane: Lane) -> None:
        """Give a lane back."""
        if self._closed:  # too late for close() to see it
            lane.close()
        with self._returned:
            self._lent -= 1
            self._idle.append(lane)
            self._returned.notify_all()

    def discard(self, lane: Lane) -> None:
        """Give back a lane whose state is unknown; a new one takes its place when needed."""
        try:
            lane.close()
        finally:
            self._count_missing()

    def close(self, timeout_s: float) -> bool:
        """Wait for lent lanes and close all; False if some did not come back in time."""
        deadline = time.monotonic() + timeout_s
        with self._returned:
            self._closed = True
            self._returned.notify_all()
            self._returned.wait_for(lambda: not self._lent, max(0.0, deadline - time.monotonic()))
            all_back = not self._lent
            idle, self._idle = self._idle, []
        for lane in idle:
            lane.close()
        return all_back

    def _is_ready(self) -> bool:
        return bool(self._idle) or self._missing > 0 or self._closed

    def _open_anew(self) -> Lane:
        try:
            return self._backend.open_lane()
        except BaseException:
            self._count_missing()
            raise

    def _count_missing(self) -> None:
        with self._returned:
            self._lent -= 1
            self._missing += 1
            self._returned.notify_all()


class Flight:
    """One batch on one borrowed lane, from start to answers.

    A batch that fails is run once more; if it fails again, its pairs run one by one, so that a
    pair which breaks the backend fails alone. Answers of a second try carry `Flag.RETRIED`.
    """

    def __init__(
        self, pool: LanePool, lane: Lane, batch: Sequence[ScenePair], manifest: Manifest
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
        except BaseException:
            pool.discard(lane)
            raise

    def land(self) -> list[Answer]:
        """Wait for the answers, one per pair in order, and give the lane back."""
        try:
            answers = self._answers()
        except BaseException:
            self._pool.discard(self._lane)
            raise
        self._pool.release(self._lane)
        return answers

    def abort(self) -> None:
        """Give the lane back without looking at the answers."""
        self._pool.discard(self._lane)

    def _answers(self) -> list[Answer]:
        try:
            if self._start_error is not None:
                raise self._start_error
            return predictions(self._lane.finish(), self.batch, self._manifest)
        except Exception:
            return self._again()

    def _again(self) -> list[Answer]:
        try:
            return self._attempt(self.batch)
        except Exception as error:
            if len(self.batch) == 1:
                return [as_backend_error(error)]
        return [self._alone(pair) for pair in self.batch]

    def _alone(self, pair: ScenePair) -> Answer:
        try:
            return self._attempt([pair])[0]
        except Exception as error:
            return as_backend_error(error)

    def _attempt(self, batch: Sequence[ScenePair]) -> list[Answer]:
        self._lane.start(batch)
        output: LaneOutput = self._lane.finish()
        return predictions(output, batch, self._manifest, retried=True)


def as_backend_error(error: Exception) -> EsccsError:
    """Return the error itself if it is ours, else a `BackendError` that names it."""
    if isinstance(error, EsccsError):
        return error
    wrapped = BackendError(f"the backend raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
