"""What a pipeline has done so far: counts that always balance, and recent latencies."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import EsccsError

#: Latencies kept for the percentiles.
LATENCY_WINDOW = 2048


class Counters:
    """Thread-safe counts of pairs and batches.

    At rest ``submitted == completed + failed + rejected + cancelled``; the difference is what is
    still under way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._submitted = self._completed = self._failed = self._rejected = self._cancelled = 0
        self._batches = self._batched_pairs = 0
        self._latencies_s: deque[float] = deque(maxlen=LATENCY_WINDOW)

    def submitted(self, pairs: int) -> None:
        """Count pairs that came in, before it is known what becomes of them."""
        with self._lock:
            self._submitted += pairs

    def rejected(self, pairs: int = 1) -> None:
        """Count pairs that were refused at the door."""
        with self._lock:
            self._rejected += pairs

    def cancelled(self, pairs: int = 1) -> None:
        """Count pairs that their caller gave up before they ran."""
        with self._lock:
            self._cancelled += pairs

    def failed(self, pairs: int = 1) -> None:
        """Count pairs that ended in an error without having run."""
        with self._lock:
            self._failed += pairs

    def answered(self, answers: Iterable[object], latencies_s: Iterable[float]) -> None:
        """Count one batch that ran: its answers, and how long its pairs or callers waited."""
        outcomes = [isinstance(answer, EsccsError) for answer in answers]
        with self._lock:
            self._failed += sum(outcomes)
            self._completed += len(outcomes) - sum(outcomes)
            self._batches += 1
            self._batched_pairs += len(outcomes)
            self._latencies_s.extend(latencies_s)

    def snapshot(self) -> dict[str, Any]:
        """Return the counts, the mean batch size and latency percentiles in milliseconds."""
        with self._lock:
            counts = {
                "submitted": self._submitted,
                "completed": self._completed,
                "failed": self._failed,
                "rejected": self._rejected,
                "cancelled": self._cancelled,
                "batches": self._batches,
                "mean_batch_size": self._batched_pairs / self._batches if self._batches else 0.0,
            }
            latencies_s = list(self._latencies_s)
        latency_ms = percentiles_ms(latencies_s, (50, 95, 99)) if latencies_s else None
        return {**counts, "latency_ms": latency_ms}


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
