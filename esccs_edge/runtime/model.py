"""A model at work: arrays in, the task's answers out. The front doors stand on it.

It checks what comes in, wires manifest, backend and pipeline together, and watches that the model
goes on answering as it did at the start. Which modalities and which answers there are, the
manifest and its task say.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

from ..backends.base import Backend
from ..contracts.arguments import real_number
from ..contracts.manifest import Manifest
from ..contracts.tasks import task_named
from ..contracts.values import Sample
from ..errors import (
    BackendError,
    ClosedError,
    EsccsError,
    ForkedProcessError,
    InputError,
    Remedy,
)
from ..pixels.checks import checked_sample
from ..pixels.pixel_memory import PixelMemory
from .counters import Stats
from .pipeline import Item, Pipeline
from .postprocess import answers
from .selfcheck import golden_sample
from .watch import Watch

A = TypeVar("A")

#: Modality name -> array or None.
RawSample = Mapping[str, Any]

#: How long `ModelRuntime.health` waits for its test sample.
HEALTH_TIMEOUT_S = 10.0
#: A batch that is in a lane for so long hangs; on a slow board a batch takes a second or two.
HANG_LIMIT_S = 60.0
#: Seconds between two looks for what hangs while an answer is waited for.
_LONGEST_WAIT_S = 1.0

_log = logging.getLogger("esccs_edge.runtime")


@dataclass(frozen=True)
class Health:
    """Whether a model answers as it did at the start.

    Attributes:
        ok: True if it does.
        problem: What is wrong, or None.
        latency_ms: Duration of the test.
        backend: What runs the network: device, libraries and arithmetic.
        bundle: ``name``, ``digest`` and ``folder`` of the bundle.
        reloads: How often the model was loaded anew because it answered differently.
    """

    ok: bool
    problem: str | None
    latency_ms: float
    backend: Mapping[str, Any]
    bundle: Mapping[str, str]
    reloads: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


DIFFERENT = "the test sample is answered differently than at the start; restart the process"


class ModelRuntime(Generic[A]):
    """Answers samples over a backend, which it owns from now on. Thread-safe.

    Args:
        backend: Where the network runs.
        manifest: Contract of the model.
        bundle: ``name``, ``digest`` and ``folder`` of the bundle, for `health`.
        max_delay_ms: Longest wait of `submit` for others in its batch, while another batch is
            under way.
        lanes: Batches that may be under way at once.
        queue_size: Most requests of `submit` that wait before `Overloaded`.
        reopen: Loads the model from disk once more; see ``check_every_s``.
        check_every_s: Seconds from one look at the model to the next; None never looks. The test
            sample is asked again: where the answer is another than at the start, the model is
            loaded from disk, and where that one answers as at the start it takes over. Requests
            that have been on the device for `HANG_LIMIT_S` fail.

    Raises:
        BackendError: The model does not run here.
        InputError: An argument is out of its range.
    """

    def __init__(
        self,
        backend: Backend,
        manifest: Manifest,
        *,
        bundle: Mapping[str, str],
        max_delay_ms: float = 2.0,
        lanes: int = 2,
        queue_size: int = 256,
        reopen: Callable[[], Backend] | None = None,
        check_every_s: float | None = None,
    ) -> None:
        if check_every_s is not None and real_number("check_every_s", check_every_s) <= 0:
            raise InputError(f"check_every_s is {check_every_s}, expected a positive number")
        self.manifest = manifest
        self.backend = backend
        self._bundle = bundle
        self._task = task_named(manifest.task)
        self._memory = PixelMemory()
        self._pipeline: Pipeline[A] = Pipeline(
            backend,
            manifest,
            lanes=lanes,
            queue_size=queue_size,
            max_delay_ms=max_delay_ms,
            release=self._memory.release,
        )
        self._golden = golden_sample(manifest)
        self._golden_answer: A = raised(self._pipeline.run([self._golden])[0])
        self._reopen = reopen
        self._reloads = 0
        self._last_good = datetime.now(timezone.utc)
        self._watch = None if check_every_s is None else Watch(self._look, check_every_s)

    def run(self, sample: RawSample) -> A:
        """Answer one sample in the calling thread, with the lowest latency.

        Raises:
            EsccsError: The sample cannot be judged, inference failed twice, or after `close`.
        """
        return raised(self._pipeline.run([checked_sample(sample, self.manifest)])[0])

    def run_batch(self, samples: Iterable[RawSample]) -> list[A | EsccsError]:
        """Answer samples in the calling thread; the place of a bad sample holds its error."""
        items = [self._item(sample) for sample in samples]
        checked = [item for item in items if not isinstance(item, EsccsError)]
        answers = iter(self._pipeline.run(checked))
        return [item if isinstance(item, EsccsError) else next(answers) for item in items]

    def submit(self, sample: RawSample, *, deadline_ms: float | None = None) -> Future[A]:
        """Queue one sample, whose pixels are copied before this returns.

        Raises:
            InputError: Shape or type are not what the manifest asks for.
            Overloaded: The queue is full; the pixels were not looked at, nothing was enqueued.
        """

        def copied() -> Sample:
            return checked_sample(sample, self.manifest, self._memory)

        return self._pipeline.submit(copied, deadline_ms=deadline_ms)

    def stream(self, samples: Iterable[RawSample | EsccsError]) -> Iterator[A | EsccsError]:
        """Answer an iterable in its order, overlapping with its reading; pixels are copied.

        An error among the samples keeps its place.
        """
        return self._pipeline.stream(self._item(sample, self._memory) for sample in samples)

    def warmup(self) -> None:
        """Run batches of several sizes on every free lane; see `Pipeline.warmup`."""
        self._pipeline.warmup(self._golden)
        self.backend.keep()

    def health(self) -> Health:
        """Ask the fixed test sample again and compare with the answer given at the start."""
        started_s = time.monotonic()
        problem = self._self_check()
        return Health(
            ok=problem is None,
            problem=problem,
            latency_ms=(time.monotonic() - started_s) * 1e3,
            backend={**self.backend.describe(), **self._reason()},
            bundle=self._bundle,
            reloads=self._reloads,
        )

    def _reason(self) -> dict[str, str]:
        return {"why": self.backend.why} if self.backend.why else {}

    def stats(self) -> Stats:
        """Return counts, mean batch size and recent latencies."""
        return self._pipeline.stats()

    def close(self) -> None:
        """Answer what is queued, then free the backend. Idempotent."""
        if self._watch is not None:
            self._watch.stop()
        self._pipeline.close()
        self._memory.clear()

    def __enter__(self) -> ModelRuntime[A]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a running model cannot be pickled; open one in each process")

    def _item(self, sample: RawSample | EsccsError, memory: PixelMemory | None = None) -> Item:
        if isinstance(sample, EsccsError):
            return sample
        try:
            return checked_sample(sample, self.manifest, memory)
        except EsccsError as error:
            return error

    def _self_check(self) -> str | None:
        try:
            future = self.submit(self._golden.pixels, deadline_ms=HEALTH_TIMEOUT_S * 1e3)
            answer = self._awaited(future, 2 * HEALTH_TIMEOUT_S)
        except (ClosedError, ForkedProcessError):
            raise
        except (EsccsError, FutureTimeoutError) as error:
            return f"the test sample got no answer: {str(error) or 'it took too long'}"
        if hung := self._pipeline.give_up(HANG_LIMIT_S):
            return (
                f"{hung} batches have been on the device for {HANG_LIMIT_S:g} s; "
                "restart the process"
            )
        if not self._task.is_same(answer, self._golden_answer):
            return DIFFERENT
        return None

    def _awaited(self, future: Future[A], timeout_s: float) -> A:
        """Wait for an answer; what hangs meanwhile is given up, perhaps this request among it."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            rest_s = deadline_s - time.monotonic()
            wait([future], max(0.0, min(rest_s, HANG_LIMIT_S, _LONGEST_WAIT_S)))
            if future.done() or rest_s <= 0:
                return future.result(timeout=0)
            self._pipeline.give_up(HANG_LIMIT_S)

    def _look(self) -> None:
        """Look after the model once; see ``check_every_s``."""
        self._pipeline.give_up(HANG_LIMIT_S)
        problem = self._self_check()
        if problem is None:
            self._last_good = datetime.now(timezone.utc)
            return
        _log.error("The model is not well: %s", problem)
        if problem == DIFFERENT and self._reopen is not None:
            self._reload(self._reopen)

    def _reload(self, reopen: Callable[[], Backend]) -> None:
        backend = reopen()
        try:
            lane = backend.open_lane()
            try:
                answer = raised(
                    answers(lane.answer([self._golden]), [self._golden], self.manifest)[0]
                )
            finally:
                lane.close()
            if not self._task.is_same(answer, self._golden_answer):
                raise BackendError(DIFFERENT, action=Remedy.RESTART)
            self._pipeline.renew(backend, HANG_LIMIT_S)
        except BaseException:
            backend.close()
            raise
        self.backend = backend
        self._reloads += 1
        _log.warning(
            "The model was loaded anew, since it had changed in memory. Answers given after %s may "
            "be wrong",
            f"{self._last_good:%Y-%m-%d %H:%M:%S} UTC",
        )


def raised(answer: A | EsccsError) -> A:
    """Return an answer; raise it if it is an error."""
    if isinstance(answer, EsccsError):
        raise answer
    return answer
