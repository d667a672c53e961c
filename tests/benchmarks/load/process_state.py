"""What a process holds over time: memory, threads, descriptors. Linux only."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .soak import resident_bytes


@dataclass(frozen=True)
class ProcessState:
    """A process at one moment.

    Attributes:
        at_s: Seconds since the run began.
        resident_bytes: Memory in RAM.
        threads: Of the system, those of libraries too.
        descriptors: Open files, pipes and sockets.
        asked: Requests until then.
    """

    at_s: float
    resident_bytes: int
    threads: int
    descriptors: int
    asked: int

    @classmethod
    def now(cls, began_s: float, asked: int) -> ProcessState:
        """Look at this process; ``began_s`` is of `time.monotonic`."""
        return cls(
            time.monotonic() - began_s,
            resident_bytes(),
            len(os.listdir("/proc/self/task")),
            len(os.listdir("/proc/self/fd")),
            asked,
        )


def quarters(states: Sequence[ProcessState], field: str) -> list[float]:
    """Return the median of a field in each quarter of the run."""
    values = [getattr(state, field) for state in states]
    return [float(np.median(part)) for part in np.array_split(values, 4)]


def slope_per_hour(states: Sequence[ProcessState], field: str) -> float:
    """Return the slope of a straight line through the second half of the run."""
    half = states[len(states) // 2 :]
    x, y = ([getattr(state, name) for state in half] for name in ("at_s", field))
    return float(np.polyfit(x, y, 1)[0]) * 3600 if len(half) > 1 and x[-1] > x[0] else 0.0


def temporaries(folder: Path) -> list[str]:
    """Return what writers left behind below a folder."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name.endswith((".esccs-partial", ".next"))
    )
