"""What a model has done so far: counts that always balance, and recent latencies."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..errors import EsccsError

#: Latencies kept for the percentiles.
LATENCY_WINDOW = 2048


@dataclass(frozen=True)
class Stats:
    """Counts of samples and batches since the start.

    At rest ``submitted == completed + failed + rejected + cancelled``; the difference is what is
    still under way.

    Attributes:
        submitted: Samples that came in.
        completed: Samples with an answer.
        failed: Samples that ended in an error.
        rejected: Samples refused because the queue was full or closed (`Overloaded`).
        cancelled: Samples cancelled by their caller before they ran.
        batches: Batches that ran.
        mean_batch_size: Samples per batch; 0 before the first.
        queued: Requests that wait now.
        latency_ms: ``p50``, ``p95`` and ``p99`` in milliseconds of the last `LATENCY_WINDOW`
            latencies, or None before the first. A latency goes from the call to the answer; it
            counts the wait in the queue, once per request and once per batch of a call.
    """

    submitted: int
    completed: int
    failed: int
    rejected: int
    cancelled: int
    batches: int
    mean_batch_size: float
    queued: int
    latency_ms: Mapping[str, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


class Counters:
    """Thread-safe counts behind `Stats`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._submitted = self._completed = self._failed = self._rejected = self._cancelled = 0
        self._batches = self._batched = 0
        self._latencies_s: deque[float] = deque(maxlen=LATENCY_WINDOW)

    def submitted(self, count: int) -> None:
        """Count samples that came in, before it is known how they end; -1 takes one back."""
        with self._lock:
            self._submitted += count

    def rejected(self, count: int = 1) -> None:
        """Count samples that were refused."""
        with self._lock:
            self._rejected += count

    def cancelled(self, count: int = 1) -> None:
        """Count samples that were cancelled before they ran."""
        with self._lock:
            self._cancelled += count

    def failed(self, count: int = 1) -> None:
        """Count samples that ended in an error without having run."""
        with self._lock:
            self._failed += count

    def answered(self, answers: Iterable[object], latencies_s: Iterable[float]) -> None:
        """Count one batch that ran: its answers, and how long its requests or callers waited."""
        outcomes = [isinstance(answer, EsccsError) for answer in answers]
        with self._lock:
            self._failed += sum(outcomes)
            self._completed += len(outcomes) - sum(outcomes)
            self._batches += 1
            self._batched += len(outcomes)
            self._latencies_s.extend(latencies_s)

    def snapshot(self, queued: int) -> Stats:
        """Return the counts, with the number of requests that wait."""
        with self._lock:
            latencies_s = list(self._latencies_s)
            stats = Stats(
                submitted=self._submitted,
                completed=self._completed,
                failed=self._failed,
                rejected=self._rejected,
                cancelled=self._cancelled,
                batches=self._batches,
                mean_batch_size=self._batched / self._batches if self._batches else 0.0,
                queued=queued,
                latency_ms=None,
            )
        latency_ms = percentiles_ms(latencies_s, (50, 95, 99)) if latencies_s else None
        return replace(stats, latency_ms=latency_ms)


def percentiles_ms(
    times_s: Sequence[float], percents: Sequence[int] = (50, 90, 99)
) -> dict[str, float]:
    """Return percentiles in milliseconds as ``p50`` and so on, interpolated as NumPy does.

    Args:
        times_s: Durations in seconds, one at least.
        percents: Which ones.
    """
    values = np.percentile(np.asarray(times_s) * 1e3, percents).tolist()
    return {f"p{percent}": value for percent, value in zip(percents, values, strict=True)}
