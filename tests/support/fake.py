"""A backend without a network, which does what a test's script says.

Every pair carries a number in its first optical pixel and is answered with that number as its
class, so a result in the wrong place is seen. The script may sleep, block, raise or change logits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from esccs_edge.backends.base import Backend, Lane, LaneOutput
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.values import PatchPair, PixelStats, Sample
from esccs_edge.errors import BackendError
from esccs_edge.runtime.pipeline import Pipeline
from support.tiny import tiny_manifest

#: Called in `finish` with the numbers of the batch; may raise, block, or return other logits.
Script = Callable[[list[int]], "np.ndarray | None"]

CLASSES = 64
#: Longest wait for something that must happen; far above any normal delay on a busy machine.
PATIENCE_S = 20.0


def numbered_manifest() -> Manifest:
    """A manifest of 64 classes named by their number."""
    return tiny_manifest(classes=tuple(f"c{number}" for number in range(CLASSES)))


def numbered_pair(number: int) -> PatchPair:
    optical = np.full((13, 16, 16), number, np.uint16)
    return PatchPair(optical, np.full((2, 16, 16), -12.0, np.float32))


def number_of(sample: Sample) -> int:
    pixels: Any = sample.pixels["optical"]
    return int(pixels[0, 0, 0])


class FakeBackend(Backend):
    """Records what reaches it and checks the lane protocol.

    Attributes:
        batches: Numbers of each batch, in the order in which they were finished.
        most_started: Most lanes that were between start and finish at once.
        open_lanes: Lanes not yet closed.
    """

    name = "fake"

    def __init__(self, max_batch: int = 4, script: Script | None = None) -> None:
        self.max_batch = max_batch
        self.script = script or (lambda numbers: None)
        self.batches: list[list[int]] = []
        self.started = 0
        self.most_started = 0
        self.open_lanes = 0
        self.closed = 0
        self.lock = threading.Lock()

    def open_lane(self) -> Lane:
        assert not self.closed, "a lane was opened after close"
        with self.lock:
            self.open_lanes += 1
        return FakeLane(self)

    def describe(self):
        return {"backend": self.name}

    def close(self) -> None:
        assert self.open_lanes == 0, "the backend was closed before its lanes"
        self.closed += 1


class FakeLane(Lane):
    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend
        self._batch: list[int] | None = None
        self._is_open = True

    def start(self, batch: Sequence[Sample]) -> None:
        assert self._is_open, "a closed lane was started"
        assert self._batch is None, "a lane was started twice"
        assert 1 <= len(batch) <= self._backend.max_batch
        self._batch = [number_of(pair) for pair in batch]
        with self._backend.lock:
            self._backend.started += 1
            self._backend.most_started = max(self._backend.most_started, self._backend.started)

    def finish(self) -> LaneOutput:
        assert self._batch is not None, "a lane was finished before it was started"
        numbers, self._batch = self._batch, None
        with self._backend.lock:
            self._backend.started -= 1
            self._backend.batches.append(numbers)
        logits = self._backend.script(numbers)
        return answer_with_numbers(numbers, logits)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with self._backend.lock:
                self._backend.open_lanes -= 1
                self._backend.started -= self._batch is not None


def answer_with_numbers(numbers: list[int], logits: np.ndarray | None = None) -> LaneOutput:
    if logits is None:
        logits = np.zeros((len(numbers), CLASSES), np.float32)
        logits[np.arange(len(numbers)), numbers] = 20
    count = len(numbers)
    return LaneOutput(
        {"logits": logits, "gate": np.full((count, 2), 0.5, np.float32)},
        {
            "optical": [PixelStats(256, 256, 0, 0, 0, 0.05, 0.3, 0.2)] * count,
            "sar": [PixelStats(256, 256, 0, 0, 0, -20.0, -5.0, -12.0)] * count,
        },
    )


def labels(answers) -> list[str]:
    return [answer.label for answer in answers]


def numbered(numbers) -> list[PatchPair]:
    return [numbered_pair(number) for number in numbers]


def submit(pipeline: Pipeline, sample: Sample, **options):
    """Queue a sample that needs no more checks."""
    return pipeline.submit(lambda: sample, **options)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


class Gate:
    """A script that blocks every batch until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, numbers: list[int]) -> None:
        self.entered.release()
        assert self.opened.wait(PATIENCE_S), "the gate was never opened"

    def for_zero(self, numbers: list[int]) -> None:
        """The same, but for the pair 0 alone."""
        if 0 in numbers:
            self(numbers)

    def await_entry(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_S)


def balance(pipeline: Pipeline) -> int:
    """Requests that came in and have not ended."""
    stats = pipeline.stats()
    ended = stats.completed + stats.failed + stats.rejected + stats.cancelled
    return stats.submitted - ended


def with_a_batch_under_way(make, gate, backend, max_delay_ms=1e3 * PATIENCE_S):
    """A pipeline of two lanes; the pair 0 holds one of them until the gate is opened."""
    pipeline = make(backend, lanes=2, max_delay_ms=max_delay_ms)
    submit(pipeline, numbered_pair(0))
    gate.await_entry()
    return pipeline


def poison(*bad: int) -> Script:
    """A script that fails for batches with one of these numbers."""

    def script(numbers):
        if set(bad) & set(numbers):
            raise BackendError(f"choked on {numbers}")

    return script
