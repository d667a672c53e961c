"""A cold start: from the start of a process to its first answer, and the memory held by then.

``python -m esccs_edge.bench.start TASK`` is the process that is timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendError
from .rows import Start

TIMEOUT_S = 300.0


def time_starts(bundle: Path, starts: int, **options: Any) -> Start:
    """Start so many processes one after the other; return the medians.

    One start more, which fills the caches of disk and compilers, is not counted.

    Args:
        bundle: Folder of the bundle.
        starts: Starts that count, one at least.
        options: ``backend``, ``threads`` and ``precision``, as `open_model` takes them.

    Raises:
        BackendError: A process gave no answer.
    """
    found = [_start(bundle, options) for _ in range(1 + starts)][1:]
    peaks = [start.peak_rss_mb for start in found if start.peak_rss_mb is not None]
    return Start(
        cold_start_ms=float(np.median([start.cold_start_ms for start in found])),
        import_ms=float(np.median([start.import_ms for start in found])),
        peak_rss_mb=float(np.median(peaks)) if peaks else None,
    )


def peak_rss_mb() -> float | None:
    """Return the most memory this process has held, in MB; None where the system has no figure."""
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` would count the parent's size before exec
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _start(bundle: Path, options: Mapping[str, Any]) -> Start:
    task = {"bundle": os.path.abspath(bundle), "started_s": time.monotonic(), **options}
    done = subprocess.run(
        [sys.executable, "-m", "esccs_edge.bench.start", json.dumps(task)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=sys.prefix,  # `-m` imports from the current folder first
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise BackendError(f"a fresh process gave no answer: {lines[-1]}")
    return Start(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Answer one sample and print what it took."""
    task = json.loads(sys.argv[1])
    from ..any_task import open_model
    from ..pixels.synthetic import random_samples

    started_s = task.pop("started_s")
    imported_s = time.monotonic() - started_s
    with open_model(task.pop("bundle"), **task) as model:
        (sample,) = random_samples(model.manifest, 1)
        model.run(sample.pixels)
        answered_s = time.monotonic() - started_s
    found = {"cold_start_ms": answered_s * 1e3, "import_ms": imported_s * 1e3}
    print(json.dumps({**found, "peak_rss_mb": peak_rss_mb()}))


if __name__ == "__main__":
    main()
