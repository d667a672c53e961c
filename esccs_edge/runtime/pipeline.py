"""From checked samples to answers over any `Backend`: at once, queued, or as a stream.

Knows lanes, batches, order, back-pressure and futures; nothing of CUDA, OpenVINO or pixels. Every
sample that enters ends in exactly one of an answer, an error, or a cancelled future.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

from ..backends.base import Backend, Lane
from ..contracts.arguments import real_number, whole_number
from ..contracts.manifest import Manifest
from ..contracts.values import Sample
from ..errors import ClosedError, EsccsError, ForkedProcessError, InputError
from .batch_run import BatchRun, as_backend_error
from .batcher import Batcher, BatchRules
from .counters import Counters, Stats
from .lane_pool import LanePool
from .postprocess import answers

A = TypeVar("A")

#: A sample, or the error that already stands in its place.
Item = Sample | EsccsError

#: How long the end of the interpreter waits for requests that were accepted.
EXIT_TIMEOUT_S = 5.0


class Pipeline(Generic[A]):
    """Runs samples on the lanes of a backend, which it owns from now on. Thread-safe.

    Args:
        backend: Where the network runs; closed by `close`.
        manifest: Contract of the model.
        lanes: Batches that may be on the way at once.
        queue_size: Most requests of `submit` that wait.
        max_delay_ms: Longest wait of a request of `submit` for others in its batch, while another
            batch is under way.
        release: Called with each sample of `submit` or `stream` once it is answered and not read
            any more.
    """

    def __init__(
        self,
        backend: Backend,
        manifest: Manifest,
        *,
        lanes: int = 2,
        queue_size: int = 256,
        max_delay_ms: float = 2.0,
        release: Callable[[Sample], None] = lambda _: None,
    ) -> None:
        lanes = whole_number("lanes", lanes, 1)
        queue_size = whole_number("queue_size", queue_size, 1)
        if real_number("max_delay_ms", max_delay_ms) < 0:
            raise InputError(f"max_delay_ms is {max_delay_ms}, expected at least 0")
        self._manifest = manifest
        self._max_batch = backend.max_batch
        self._look_ahead = min((lanes + 1) * backend.max_batch, queue_size)
        self._counters = Counters()
        self._pool = LanePool(backend, lanes)
        rules = BatchRules(backend.max_batch, max_delay_ms / 1e3, queue_size)
        self._batcher: Batcher[A] = Batcher(
            self._pool, manifest, self._counters, rules, lanes + 1, release
        )
        self._process = os.getpid()
        self._closed = False
        # Runs when the object is collected or the interpreter ends, whichever comes first.
        self._finalizer = weakref.finalize(
            self, _shut, self._process, self._batcher, self._pool, True, EXIT_TIMEOUT_S
        )

    def run(self, samples: Sequence[Sample]) -> list[A | EsccsError]:
        """Answer samples in the calling thread; more than ``max_batch`` overlap over free lanes.

        Raises:
            ClosedError: After `close`.
            ForkedProcessError: In a child of the process that made the pipeline.
        """
        self._check_usable()
        self._counters.submitted(len(samples))
        found: list[A | EsccsError] = []
        runs: deque[BatchRun[A]] = deque()
        started_s = time.monotonic()
        try:
            for first in range(0, len(samples), self._max_batch):
                lane = self._lane_for_next(runs)
                while lane is None:
                    found += self._answers_of(runs, started_s)
                    lane = self._lane_for_next(runs)
                batch = samples[first : first + self._max_batch]
                runs.append(BatchRun(self._pool, lane, batch, self._manifest))
            while runs:
                found += self._answers_of(runs, started_s)
        except BaseException:
            self._counters.failed(len(samples) - len(found))
            self._pool.reclaim()
            raise
        return found

    def warmup(self, sample: Sample) -> None:
        """Run batches of `warmup_sizes` twice on every lane that is free, and keep these meanwhile.

        Lanes prepare themselves for what they first meet, and a GPU's records some batches as a
        graph the second time.

        Raises:
            EsccsError: The backend failed, the sample cannot be judged, or the pipeline was closed.
            ForkedProcessError: In a child of the process that made the pipeline.
        """
        self._check_usable()
        lanes: list[Lane] = []
        failed: Exception | None = None
        try:
            try:
                while (lane := self._pool.acquire(wait=not lanes)) is not None:
                    lanes.append(lane)
                for lane in lanes:
                    for size in warmup_sizes(self._max_batch) * 2:
                        self._require_answers(lane, [sample] * size)
            except Exception as error:  # after which a lane can be used again
                failed = as_backend_error(error)
            for lane in lanes:
                self._pool.release(lane)
        except BaseException:
            self._pool.reclaim()
            raise
        if failed is not None:
            raise failed

    def _require_answers(self, lane: Lane, batch: Sequence[Sample]) -> None:
        for answer in answers(lane.answer(batch), batch, self._manifest):
            if isinstance(answer, EsccsError):
                raise answer

    def submit(
        self, sample_of: Callable[[], Sample], *, deadline_ms: float | None = None
    ) -> Future[A]:
        """Queue a sample for the next batch.

        Args:
            sample_of: Returns the checked sample, whose arrays must not change until it is
                answered. Called only where there is a place for it, since a refusal should cost
                next to nothing.
            deadline_ms: The answer is not wanted later than this from now; a request that could
                not start by then ends in `DeadlineExceeded`.

        Returns:
            A future; ``cancel()`` works until its batch starts. Its callbacks run in threads of
            their own, where they may wait for other answers; see `CallbackThreads`.

        Raises:
            Overloaded: The queue is full, or no thread can be started; nothing was enqueued.
            ClosedError: After `close`.
            ForkedProcessError: In a child of the process that made the pipeline.
        """
        self._check_usable()
        deadline_s = math.inf
        if deadline_ms is not None:
            if real_number("deadline_ms", deadline_ms) <= 0:
                raise InputError(f"deadline_ms is {deadline_ms}, expected a positive number")
            deadline_s = time.monotonic() + deadline_ms / 1e3
        return self._batcher.put(sample_of, deadline_s=deadline_s)

    def stream(self, items: Iterable[Item]) -> Iterator[A | EsccsError]:
        """Answer an iterable in its order, while later items are read and run.

        The arrays of a sample must not change until it is answered.
        Items are pulled in the calling thread, only as far ahead as keeps every lane busy, and an
        answer that is ready is returned before the next item is pulled. An error among the items
        keeps its place; what the iterable raises, or a `close` meanwhile, is raised after the
        answers of the items before it.
        """
        self._check_usable()
        return self._stream(items)

    def renew(self, backend: Backend, timeout_s: float) -> None:
        """Go on with another backend of the same model; see `LanePool.renew`."""
        self._check_usable()
        self._pool.renew(backend, timeout_s)

    def give_up(self, limit_s: float) -> int:
        """Fail the requests of `submit` and `stream` that have been in a lane for longer.

        Returns:
            Batches that hang, also those that were given up before.
        """
        return self._batcher.give_up(limit_s)

    def stats(self) -> Stats:
        """Return counts, mean batch size, latency percentiles and the length of the queue."""
        return self._counters.snapshot(self._batcher.queued)

    def close(self, *, drain: bool = True, timeout_s: float = 30.0) -> None:
        """Answer what is queued (or cancel it), then free lanes and backend. Idempotent.

        Args:
            drain: False cancels queued requests.
            timeout_s: What has not ended by then is cancelled or, if it hangs in the backend, left
                behind.
        """
        self._closed = True
        if self._finalizer.detach() is not None:
            _shut(self._process, self._batcher, self._pool, drain, timeout_s)

    def _stream(self, items: Iterable[Item]) -> Iterator[A | EsccsError]:
        waiting: deque[Future[A] | EsccsError] = deque()
        failed: Exception | None = None
        source = iter(items)
        try:
            while failed is None:
                try:
                    waiting.append(self._begun(next(source)))
                except StopIteration:
                    break
                except Exception as error:  # raised once what came before is answered
                    failed = error
                while waiting and (len(waiting) >= self._look_ahead or _is_done(waiting[0])):
                    yield self._answer_of(waiting.popleft())
            while waiting:
                yield self._answer_of(waiting.popleft())
            if failed is not None:
                raise failed
        finally:
            for future in waiting:
                if isinstance(future, Future):
                    future.cancel()

    def _begun(self, item: Item) -> Future[A] | EsccsError:
        if isinstance(item, EsccsError):
            return item
        self._check_usable()
        return self._batcher.put(lambda: item, wait=True)

    def _answer_of(self, slot: Future[A] | EsccsError) -> A | EsccsError:
        if isinstance(slot, EsccsError):
            return slot
        try:
            return slot.result()
        except CancelledError:
            raise ClosedError("the model was closed while it streamed") from None
        except EsccsError as error:
            return error

    def _lane_for_next(self, runs: deque[BatchRun[A]]) -> Lane | None:
        # A thread that holds a lane must not wait for another, or two such threads wait for ever.
        return self._pool.acquire(wait=not runs)

    def _answers_of(self, runs: deque[BatchRun[A]], started_s: float) -> list[A | EsccsError]:
        found = runs.popleft().answers()
        self._counters.answered(found, [time.monotonic() - started_s])
        return found

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise ForkedProcessError(
                "this model was opened before fork() and cannot be used in the child process",
                hint="Start processes with the 'spawn' method of multiprocessing. One opened in a "
                "forked child works, but with OpenVINO 2025.0 it hangs in some",
            )
        if self._closed:
            raise ClosedError("the model was closed", hint="Open it again")


def warmup_sizes(max_batch: int) -> list[int]:
    """Return the powers of two and those plus one, up to ``max_batch``, and that itself.

    The CPU's lanes, which cut batches into parts, meet every size of a part in them.
    """
    powers = [2**n for n in range(max_batch.bit_length())]
    return sorted({min(size, max_batch) for n in powers for size in (n, n + 1)} | {max_batch})


def _shut(
    process: int,
    batcher: Batcher[A],
    pool: LanePool,
    drain: bool,
    timeout_s: float,
) -> None:
    if os.getpid() != process:  # threads and native state belong to the parent
        return
    deadline = time.monotonic() + timeout_s
    batcher.close(drain=drain, timeout_s=timeout_s)
    if pool.close(max(0.0, deadline - time.monotonic())):
        pool.close_backend()


def _is_done(slot: Future[A] | EsccsError) -> bool:
    return isinstance(slot, EsccsError) or slot.done()
