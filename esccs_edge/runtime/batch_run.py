"""One batch on one borrowed lane, from start to answers, with its second try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from ..backends.base import Lane
from ..contracts.manifest import Manifest
from ..contracts.values import Sample
from ..errors import BackendError, EsccsError, Remedy
from .lane_pool import LanePool
from .postprocess import answers

A = TypeVar("A")


class BatchRun(Generic[A]):
    """A batch that is under way; `answers` ends it.

    A batch that fails is run once more; if it fails again, its samples run one by one, so that a
    sample which breaks the backend fails alone. Answers of a second try carry `Flag.RETRIED`. There
    is no second try once the backend says that only a new process helps. A lane whose second try
    ends in anything but our own errors is not lent again: only these say that it can be used.
    """

    def __init__(
        self, pool: LanePool, lane: Lane, batch: Sequence[Sample], manifest: Manifest
    ) -> None:
        self.batch = batch
        self._pool = pool
        self._lane = lane
        self._manifest = manifest
        self._start_error: Exception | None = None
        self._is_lane_known = True
        try:
            lane.start(batch)
        except Exception as error:  # raised by _first_try, where the second try follows
            self._start_error = error

    def answers(self) -> list[A | EsccsError]:
        """Wait for the answers, one per sample in order, and give the lane back."""
        try:
            found = self._first_try()
        except Exception:
            self._pool.discard(self._lane)
            raise
        give_back = self._pool.release if self._is_lane_known else self._pool.discard
        give_back(self._lane)
        return found

    def _first_try(self) -> list[A | EsccsError]:
        try:
            if self._start_error is not None:
                raise self._start_error
            return answers(self._lane.finish(), self.batch, self._manifest)
        except Exception as error:
            if _is_final(error):
                return [as_backend_error(error)] * len(self.batch)
            return self._second_try()

    def _second_try(self) -> list[A | EsccsError]:
        try:
            return self._run(self.batch)
        except Exception as error:
            self._note(error)
            if len(self.batch) == 1 or _is_final(error):
                return [as_backend_error(error)] * len(self.batch)
        return [self._alone(sample) for sample in self.batch]

    def _alone(self, sample: Sample) -> A | EsccsError:
        try:
            return self._run([sample])[0]
        except Exception as error:
            self._note(error)
            return as_backend_error(error)

    def _note(self, error: Exception) -> None:
        self._is_lane_known = self._is_lane_known and isinstance(error, EsccsError)

    def _run(self, batch: Sequence[Sample]) -> list[A | EsccsError]:
        return answers(self._lane.answer(batch), batch, self._manifest, retried=True)


def _is_final(error: Exception) -> bool:
    """Return whether nothing that this process computes on the device could be trusted."""
    return isinstance(error, BackendError) and error.action is Remedy.RESTART


def as_backend_error(error: BaseException) -> EsccsError:
    """Return the error itself if it is ours, else a `BackendError` that names it."""
    if isinstance(error, EsccsError):
        return error
    wrapped = BackendError(f"the backend raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
