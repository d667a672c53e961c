"""From checked pairs to answers over any `Backend`: at once, queued, or as a stream.

Knows lanes, batches, order, back-pressure and futures; nothing of CUDA, OpenVINO or pixels. Every
pair that enters ends in exactly one of a prediction, an error, or a cancelled future.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

from ..backends.base import Backend, Lane
from ..contracts.manifest import Manifest
from ..contracts.values import PatchPair, Prediction
from ..errors import ClosedError, EsccsError, ForkedProcessError, InputError
from .batcher import Batcher, BatchRules
from .counters import Counters
from .lane_pool import Flight, LanePool, as_backend_error
from .postprocess import Answer, predictions

#: A pair, or the error that already stands in its place.
Item = PatchPair | EsccsError

#: How long the end of the interpreter waits for requests that were accepted.
EXIT_TIMEOUT_S = 5.0


class Pipeline:
    """Runs pairs on the lanes of a backend, which it owns from now on. Thread-safe.

    Args:
        backend: Where the network runs; closed by `close`.
        manifest: Contract of the model.
        lanes: Batches that may be on the way at once.
        queue_size: Most requests of `submit` that wait.
        max_delay_ms: Longest wait of a request of `submit` for company in its batch, while another
            batch is under way.
        let_go: Called with each pair of `submit` or `stream` once it is answered, when nobody will
            read it any more.
    """

    def __init__(
        self,
        backend: Backend,
        manifest: Manifest,
        *,
        lanes: int = 2,
        queue_size: int = 256,
        max_delay_ms: float = 2.0,
        let_go: Callable[[PatchPair], None] = lambda _: None,
    ) -> None:
        if lanes < 1 or queue_size < 1 or not 0 <= max_delay_ms < math.inf:
            raise InputError(
                f"lanes is {lanes}, queue_size {queue_size}, max_delay_ms {max_delay_ms}; "
                "expected at least 1, 1 and 0"
            )
        self._manifest = manifest
        self._max_batch = backend.max_batch
        self._look_ahead = min((lanes + 1) * backend.max_batch, queue_size)
        self._counters = Counters()
        self._pool = LanePool(backend, lanes)
        rules = BatchRules(backend.max_batch, max_delay_ms / 1e3, queue_size)
        self._batcher = Batcher(self._pool, manifest, self._counters, rules, lanes + 1, let_go)
        self._process = os.getpid()
        self._closed = False
        # Runs when the object is collected or the interpreter ends, whichever comes first.
        self._finalizer = weakref.finalize(
            self, _shut, self._process, self._batcher, self._pool, backend, True, EXIT_TIMEOUT_S
        )
        self._backend = backend

    def run(self, pairs: Sequence[PatchPair]) -> list[Answer]:
        """Answer pairs in the calling thread; more than ``max_batch`` overlap over free lanes.

        Raises:
            ClosedError: After `close`.
            ForkedProcessError: In a child of the process that made the pipeline.
        """
        self._check_usable()
        self._counters.submitted(len(pairs))
        answers: list[Answer] = []
        flights: deque[Flight] = deque()
        started_s = time.monotonic()
        try:
            for first in range(0, len(pairs), self._max_batch):
                lane = self._lane_for_next(flights)
                while lane is None:
                    answers += self._land(flights, started_s)
                    lane = self._lane_for_next(flights)
                batch = pairs[first : first + self._max_batch]
                flights.append(Flight(self._pool, lane, batch, self._manifest))
            while flights:
                answers += self._land(flights, started_s)
        except BaseException:
            self._counters.failed(len(pairs) - len(answers))
            self._pool.reclaim()
            raise
        return answers

    def warmup(self, pair: PatchPair) -> None:
        """Run batches of `warmup_sizes` twice on every lane that is free, and keep these meanwhile.

        Lanes prepare themselves for what they first meet, and a GPU's records some batches as a
        graph the second time.

        Raises:
            EsccsError: The backend failed, the pair cannot be judged, or the pipeline was closed.
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
                    for pairs in warmup_sizes(self._max_batch) * 2:
                        self._require_answers(lane, [pair] * pairs)
            except Exception as error:  # after which a lane can be used again
                failed = as_backend_error(error)
            for lane in lanes:
                self._pool.release(lane)
        except BaseException:
            self._pool.reclaim()
            raise
        if failed is not None:
            raise failed

    def _require_answers(self, lane: Lane, batch: Sequence[PatchPair]) -> None:
        for answer in predictions(lane.answer(batch), batch, self._manifest):
            if isinstance(answer, EsccsError):
                raise answer

    def admit(self) -> None:
        """Refuse what would find no place in the queue, before anything is paid for it.

        Raises:
            Overloaded: The queue is full.
            ClosedError: After `close`.
            ForkedProcessError: In a child of the process that made the pipeline.
        """
        self._check_usable()
        self._batcher.refuse_when_full()

    def submit(self, pair: PatchPair, *, deadline_ms: float | None = None) -> Future[Prediction]:
        """Queue a pair for the next batch.

        Args:
            pair: A checked pair, whose arrays must not change until it is answered.
            deadline_ms: The answer is not wanted later than this from now; a request that could
                not start by then ends in `DeadlineExceeded`.

        Returns:
            A future; ``cancel()`` works until its batch starts. Its callbacks run in a worker
            thread and should be short.

        Raises:
            Overloaded: The queue is full; nothing was enqueued.
            ClosedError: After `close`.
            ForkedProcessError: In a child of the process that made the pipeline.
        """
        self._check_usable()
        deadline_s = math.inf
        if deadline_ms is not None:
            if not deadline_ms > 0:
                raise InputError(f"deadline_ms is {deadline_ms}, expected a positive number")
            deadline_s = time.monotonic() + deadline_ms / 1e3
        return self._batcher.put(pair, deadline_s=deadline_s, wait=False)

    def stream(self, items: Iterable[Item]) -> Iterator[Answer]:
        """Answer an iterable in its order, while later items are read and run.

        The arrays of a pair must not change until it is answered.
        Items are pulled in the calling thread, only as far ahead as keeps every lane busy, and an
        answer that is ready is handed out before the next item is pulled. An error among the items
        keeps its place.
        """
        self._check_usable()
        return self._stream(items)

    def stats(self) -> dict[str, Any]:
        """Return counts, mean batch size, latency percentiles and the length of the queue."""
        return {**self._counters.snapshot(), "queued": self._batcher.queued}

    def close(self, *, drain: bool = True, timeout_s: float = 30.0) -> None:
        """Answer what is queued (or cancel it), then free lanes and backend. Idempotent.

        Args:
            drain: False cancels queued requests.
            timeout_s: What has not ended by then is cancelled or, if it hangs in the backend, left
                behind.
        """
        self._closed = True
        if self._finalizer.detach() is not None:
            _shut(self._process, self._batcher, self._pool, self._backend, drain, timeout_s)

    def _stream(self, items: Iterable[Item]) -> Iterator[Answer]:
        waiting: deque[Future[Prediction] | EsccsError] = deque()
        try:
            for item in items:
                if isinstance(item, EsccsError):
                    waiting.append(item)
                else:
                    self._check_usable()
                    waiting.append(self._batcher.put(item, wait=True))
                while waiting and (len(waiting) >= self._look_ahead or _is_done(waiting[0])):
                    yield _answer_of(waiting.popleft())
            while waiting:
                yield _answer_of(waiting.popleft())
        finally:
            for future in waiting:
                if isinstance(future, Future):
                    future.cancel()

    def _lane_for_next(self, flights: deque[Flight]) -> Lane | None:
        # A thread that holds a lane must not wait for another, or two such threads wait for ever.
        return self._pool.acquire(wait=not flights)

    def _land(self, flights: deque[Flight], started_s: float) -> list[Answer]:
        answers = flights.popleft().land()
        self._counters.answered(answers, [time.monotonic() - started_s])
        return answers

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise ForkedProcessError(
                "this classifier was made before fork() and cannot be used in the child process",
                hint="Make one in the child, or use the 'spawn' start method of multiprocessing",
            )
        if self._closed:
            raise ClosedError("the classifier was closed", hint="Make a new one")


def warmup_sizes(max_batch: int) -> list[int]:
    """Return the powers of two and those plus one, up to ``max_batch``, and that itself.

    The CPU's lanes, which cut batches into parts, meet every size of a part in them.
    """
    powers = [2**n for n in range(max_batch.bit_length())]
    return sorted({min(size, max_batch) for n in powers for size in (n, n + 1)} | {max_batch})


def _shut(
    process: int, batcher: Batcher, pool: LanePool, backend: Backend, drain: bool, timeout_s: float
) -> None:
    if os.getpid() != process:  # threads and native state belong to the parent
        return
    deadline = time.monotonic() + timeout_s
    batcher.close(drain=drain, timeout_s=timeout_s)
    if pool.close(max(0.0, deadline - time.monotonic())):
        backend.close()


def _is_done(slot: Future[Prediction] | EsccsError) -> bool:
    return isinstance(slot, EsccsError) or slot.done()


def _answer_of(slot: Future[Prediction] | EsccsError) -> Answer:
    if isinstance(slot, EsccsError):
        return slot
    try:
        return slot.result()
    except CancelledError:
        raise ClosedError("the classifier was closed while it streamed") from None
    except EsccsError as error:
        return error
