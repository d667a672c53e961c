"""What a run of `bench` finds out: values, from which table, page and JSON are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """One row: calls of one size, from raw pixels to labels.

    Attributes:
        batch: Pairs per call.
        threads: CPU threads; None for all.
        p50_ms: Median time of a call.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        pairs_per_s: ``batch`` over the median time.
        calls: Calls timed.
        joules_per_pair: Energy of the whole package or board, idle power included; None without a
            sensor.
    """

    batch: int
    threads: int | None
    p50_ms: float
    p90_ms: float
    p99_ms: float
    pairs_per_s: float
    calls: int
    joules_per_pair: float | None


@dataclass(frozen=True)
class Parts:
    """What a call is made of; median times.

    Attributes:
        batch: Pairs per call.
        threads: CPU threads; None for all.
        preprocess_ms: Raw pixels to network input.
        inference_ms: The network.
        postprocess_ms: Scores to answers.
        queue_ms: What `Classifier.submit` costs beyond `Classifier.classify`; None for batches.
    """

    batch: int
    threads: int | None
    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float
    queue_ms: float | None


@dataclass(frozen=True)
class Start:
    """A fresh process.

    Attributes:
        cold_start_ms: From its start to its first answer.
        import_ms: Of that, interpreter and imports.
        peak_rss_mb: The most memory it held until then; None where the system has no figure.
    """

    cold_start_ms: float
    import_ms: float
    peak_rss_mb: float | None


@dataclass(frozen=True)
class BenchResult:
    """All that one run found out.

    Attributes:
        rows: Times by threads and batch size.
        parts: Their parts; empty on a GPU, where the parts overlap.
        start: Cold start.
        backend: What `Classifier.health` says of itself, without the bundle's folder.
        host: What the numbers depend on.
        energy: Name of the power meter, or None.
    """

    rows: list[Timing]
    parts: list[Parts]
    start: Start
    backend: dict[str, Any]
    host: dict[str, Any]
    energy: str | None
