"""Memory of the process over a long run of `Classifier.classify`: flat, or a leak. Linux only."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from esccs_edge.bench.pixels import timed_samples
from esccs_edge.classifier import Classifier
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import EsccsError

from .callers import PAIRS
from .rows import Progress, Soak, no_progress

#: Samples of the memory over the whole run.
SAMPLES = 200
#: Share of the calls left out of the slope: the allocator still takes a few MiB at once while it
#: settles, which a straight line would spread over all calls.
SETTLING = 0.5
_STATM = Path("/proc/self/statm")


def soak(bundle: Bundle, calls: int, *, progress: Progress = no_progress) -> Soak:
    """Call `Classifier.classify` so many times on the CPU and watch the memory.

    Args:
        bundle: The model.
        calls: How many times, at least 100.
        progress: Called with calls done and in all.

    Raises:
        EsccsError: The system has no figure for the resident memory, or there are too few calls.
    """
    if calls < 100:
        raise EsccsError(f"calls is {calls}, expected at least 100")
    every = max(calls // SAMPLES, 1)
    at_calls, resident = [0], []
    with Classifier(bundle, "cpu") as classifier:
        pairs = timed_samples(classifier.manifest, PAIRS)
        resident.append(resident_bytes())
        begin = time.perf_counter()
        for done in range(1, calls + 1):
            pair = pairs[done % PAIRS]
            classifier.classify(**pair.pixels)
            if done % every == 0 or done == calls:
                at_calls.append(done)
                resident.append(resident_bytes())
                progress(done, calls)
        took_s = time.perf_counter() - begin
    settled = np.asarray(at_calls) >= SETTLING * calls
    x, y = np.asarray(at_calls)[settled], np.asarray(resident)[settled]
    slope = round(float(np.polyfit(x, y, 1)[0]), 6) + 0.0  # of a flat line it is 0, not -1e-14
    return Soak(calls, slope, resident[-1] - resident[0], calls / took_s, at_calls, resident)


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM.

    Raises:
        EsccsError: The system has no ``/proc``.
    """
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError as error:
        raise EsccsError(
            f"the memory of the process cannot be read: {error}",
            hint="Soak on Linux, or leave the soak out",
        ) from error
    return pages * os.sysconf("SC_PAGE_SIZE")
