"""What the load measurements find out: values, from which page, picture and JSON are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Called with parts done and parts in all.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class CallersRow:
    """Callers that each submit a pair, wait for its answer, and submit the next.

    Attributes:
        threads: CPU threads the classifier may use.
        callers: Threads that submit.
        pairs_per_s: Answers per second over all callers.
        p50_ms: Median time from ``submit`` to the answer in the caller's hands.
        p99_ms: 99th percentile of it.
        mean_batch: Pairs per batch that came about by itself.
    """

    threads: int
    callers: int
    pairs_per_s: float
    p50_ms: float
    p99_ms: float
    mean_batch: float


@dataclass(frozen=True)
class BatchRow:
    """One caller of `Classifier.classify_batch`.

    Attributes:
        batch: Pairs per call, all in one batch of the network.
        pairs_per_s: Answers per second.
        p50_ms: Median time of a call.
        p99_ms: 99th percentile of it.
    """

    batch: int
    pairs_per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class LoadRow:
    """One load, the median of the rounds; None where there is nothing to measure.

    Attributes:
        load: Arrivals asked for, in multiples of the capacity.
        asked_per_s: The same in pairs per second.
        offered_per_s: Arrivals that one Python thread brought about; less than asked where it could
            not keep up.
        client_cores: Processor time of that thread per second: what submitting took away from
            answering on a machine without cores to spare.
        goodput_per_s: Answers per second while requests arrived.
        goodput_of_peak: That, over the highest of the round (its capacity included).
        rejected: Share of the arrivals that were refused.
        reject_p50_ms: Median time in which ``submit`` refused.
        reject_p99_ms: 99th percentile of it.
        p50_ms: Median time from ``submit`` to the answer, of what was accepted.
        p99_ms: 99th percentile of it.
    """

    load: float
    asked_per_s: float
    offered_per_s: float
    client_cores: float
    goodput_per_s: float
    goodput_of_peak: float
    rejected: float
    reject_p50_ms: float | None
    reject_p99_ms: float | None
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Overload:
    """What `overload` found.

    Attributes:
        capacity_per_s: Answers per second while the queue is kept half full, so that batches are
            full and nothing is refused; the median of the rounds.
        bound_ms: Time in which the capacity works off a full queue and full lanes: the longest an
            accepted request has to wait while the machine does nothing else.
        rows: One for each load.
    """

    capacity_per_s: float
    bound_ms: float
    rows: list[LoadRow]


@dataclass(frozen=True)
class Soak:
    """Resident memory of the process while one thread classifies pair after pair.

    Attributes:
        calls: Calls made.
        bytes_per_call: Slope of a straight line through the samples after settling.
        grown_bytes: Last sample less the first one, settling included.
        calls_per_s: Calls over the time of all.
        at_calls: Calls made when the memory was read.
        resident_bytes: What was read.
    """

    calls: int
    bytes_per_call: float
    grown_bytes: int
    calls_per_s: float
    at_calls: list[int]
    resident_bytes: list[int]


@dataclass(frozen=True)
class Scaling:
    """All scaling measurements of one bundle; ``soak`` is None where it was left out."""

    bundle: str
    seconds: float
    callers: list[CallersRow]
    batches: list[BatchRow]
    overload: Overload
    soak: Soak | None


@dataclass(frozen=True)
class Verdict:
    """One target: what was asked, what was found, and whether it holds."""

    target: str
    found: str
    holds: bool
