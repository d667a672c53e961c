"""Counts of a service in the text form of Prometheus, under the names that Triton gives them.

Dashboards and alerts for Triton Inference Server read them as they are. What Triton has no name for
begins with ``esccs_``.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate

from ..runtime.counters import Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Upper ends of the bins of the histogram, in milliseconds.
BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
#: Why a request failed, in Triton's words.
REJECTED, CANCELED, BACKEND, OTHER = REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")


class Metrics:
    """Counts of requests for answers about pairs. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._succeeded = 0
        self._failed: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._bins = [0] * (len(BUCKETS_MS) + 1)
        self._total_s = 0.0

    def succeeded(self, seconds: float) -> None:
        """Count an answer and how long it took from the end of the upload."""
        place = sum(1e3 * seconds > upper for upper in BUCKETS_MS)
        with self._lock:
            self._succeeded += 1
            self._total_s += seconds
            self._bins[place] += 1

    def failed(self, reason: str) -> None:
        """Count a request without an answer."""
        with self._lock:
            self._failed[reason] += 1

    def text(self, model: str, stats: Stats, scenes: Mapping[str, int]) -> str:
        """Return all counts.

        Args:
            model: Its name, a label of every line.
            stats: Of the model.
            scenes: State -> jobs.
        """
        with self._lock:
            succeeded, failed, total_s = self._succeeded, dict(self._failed), self._total_s
            bins = list(self._bins)
        labels = f'model="{_escaped(model)}",version="1"'
        name = "nv_inference_first_response_histogram_ms"
        ends = [*map(str, BUCKETS_MS), "+Inf"]
        counted = zip(ends, accumulate(bins), strict=True)
        histogram: list[tuple[str, str, float]] = []
        histogram += [(f"{name}_bucket", f'{labels},le="{end}"', n) for end, n in counted]
        histogram += [(f"{name}_sum", labels, 1e3 * total_s), (f"{name}_count", labels, sum(bins))]
        families: list[tuple[str, str, str, Iterable[tuple[str, str, float]]]] = [
            ("nv_inference_request_success", "counter", "Requests that were answered",
             [("nv_inference_request_success", labels, succeeded)]),
            ("nv_inference_request_failure", "counter", "Requests without an answer, by reason",
             [("nv_inference_request_failure", f'{labels},reason="{reason}"', n)
              for reason, n in failed.items()]),
            ("nv_inference_count", "counter", "Pairs and patches answered, self checks too",
             [("nv_inference_count", labels, stats.completed)]),
            ("nv_inference_exec_count", "counter", "Batches that ran",
             [("nv_inference_exec_count", labels, stats.batches)]),
            ("nv_inference_request_duration_us", "counter", "Time spent on answered requests",
             [("nv_inference_request_duration_us", labels, round(1e6 * total_s))]),
            ("nv_inference_pending_request_count", "gauge", "Pairs that wait for the model",
             [("nv_inference_pending_request_count", labels, stats.queued)]),
            (name, "histogram", "Time from the end of the upload to the answer", histogram),
            ("esccs_scene_jobs", "gauge", "Scenes by state",
             [("esccs_scene_jobs", f'{labels},state="{state}"', n) for state, n in scenes.items()]),
        ]  # fmt: skip
        lines = []
        for family, kind, words, samples in families:
            lines += [f"# HELP {family} {words}", f"# TYPE {family} {kind}"]
            lines += [f"{sample}{{{label}}} {value}" for sample, label, value in samples]
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
