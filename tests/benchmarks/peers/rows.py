"""What a comparison finds out: values, from which table, page, picture and JSON are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from esccs_edge.bench.host import LIBRARIES, host
from esccs_edge.power import find_meter


def peers_host() -> dict[str, Any]:
    """Return the host with the versions of the peers' libraries."""
    return host((*LIBRARIES, "onnxruntime", "torch", "opencv-python-headless"))


def meter_name() -> str | None:
    """Return the name of the power meter of the CPU, or None where there is none."""
    meter = find_meter(gpu=None)
    return meter.name if meter else None


@dataclass(frozen=True)
class Timing:
    """One row of the table. Times are medians over the rounds of that round's percentile.

    Attributes:
        peer: What was timed, from raw pixels to labels.
        patch: Height and width of a patch in pixels.
        batch: Pairs per call.
        threads: CPU threads; None was the peer's own choice.
        p50_ms: Median time of one call.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        pairs_per_s: ``batch`` over the median time.
        rounds_ms: Median time of a call in each round.
    """

    peer: str
    patch: int
    batch: int
    threads: int | None
    p50_ms: float
    p90_ms: float
    p99_ms: float
    pairs_per_s: float
    rounds_ms: list[float]


@dataclass(frozen=True)
class Comparison:
    """A row against ours: its median time over ours, round by round. Above 1 it is slower.

    Attributes:
        peer: As in `Timing`.
        patch: As in `Timing`.
        batch: As in `Timing`.
        threads: As in `Timing`.
        ratio: Median over the rounds.
        ratio_low: Smallest of the rounds.
        ratio_high: Largest of the rounds.
        rounds: Rounds timed.
        calls: Calls timed, over all rounds.
        joules_per_pair: Energy of the whole package or board, idle power included, or None.
    """

    peer: str
    patch: int
    batch: int
    threads: int | None
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    calls: int
    joules_per_pair: float | None


@dataclass
class Compared:
    """All that one run found out; lists of rows that `dataclasses.asdict` makes JSON of.

    Attributes:
        rows: Whole times.
        comparisons: The same rows against ours.
        parts: Peer, patch, batch, threads and the median milliseconds of each part.
        fresh: Peer, ``cold_start_ms`` and ``import_ms`` from the start of a process, and the
            ``peak_rss_mb`` it had after its first label.
        agreement: Peer, patch, threads and how its answers compare.
        absent: Peer and the reason why it was not timed.
        about: Peer -> what it says of itself.
        host: What the numbers depend on.
        energy: What measured the energy, or None.
    """

    rows: list[Timing] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)
    fresh: list[dict[str, Any]] = field(default_factory=list)
    agreement: list[dict[str, Any]] = field(default_factory=list)
    absent: list[dict[str, str]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=peers_host)
    energy: str | None = field(default_factory=meter_name)
