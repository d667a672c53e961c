"""How fast this bundle answers on this machine: latency, throughput, parts, cold start.

Pixels are random; only time is measured here, never accuracy. `esccs-edge bench` prints it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .classifier import Classifier
from .cpu_backend import CpuBackend
from .errors import BackendError
from .random_pairs import random_pairs
from .scene import ScenePair

BATCHES = (1, 8, 32)
#: Each row is timed at least this often and this long, after a warm-up.
MIN_ROUNDS = 20
MIN_SECONDS = 1.0
WARMUP_ROUNDS = 5
COLD_START_TIMEOUT_S = 120.0

_COLD_START = """
import sys, time
start = time.perf_counter()
import numpy as np
from esccs_edge import Bundle, Classifier
bundle = Bundle.open(sys.argv[1])
spec, size = bundle.manifest.optical, bundle.manifest.patch_size
with Classifier(bundle, backend=sys.argv[2], max_batch=1, lanes=1) as classifier:
    classifier.classify(np.full((len(spec.channels), size, size), 0.2, np.float32), None)
    print((time.perf_counter() - start) * 1e3)
"""


@dataclass(frozen=True)
class Timing:
    """One row of the table.

    Attributes:
        peer: What was timed. ``"esccs-edge"`` is the whole way from raw pixels to predictions;
            ``"... preprocess"`` the part of it until the network starts, ``"... inference"`` the
            wait for the network from there.
        patch: Height and width of a patch in pixels.
        batch: Pairs per call.
        threads: Threads the classifier may use; None leaves the choice to the backend.
        p50_ms: Median time of one call.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        pairs_per_s: ``batch`` over the median time.
    """

    peer: str
    patch: int
    batch: int
    threads: int | None
    p50_ms: float
    p90_ms: float
    p99_ms: float
    pairs_per_s: float


def bench(
    classifier: Classifier,
    *,
    batches: Sequence[int] = BATCHES,
    threads: int | None = None,
    min_seconds: float = MIN_SECONDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Timing]:
    """Time the whole way at each batch size and, on the CPU, its two large parts.

    Args:
        classifier: An open classifier.
        batches: Pairs per call, at most the classifier's ``max_batch``.
        threads: What the classifier was given.
        min_seconds: Time spent on each row at least.
        progress: Called with batch sizes done and batch sizes in all.
    """
    rows: list[Timing] = []
    for done, batch in enumerate(batches):
        progress(done, len(batches))
        pairs = random_pairs(classifier.manifest, batch)
        whole = _calls(classifier, pairs)
        samples = {"esccs-edge": _time(whole, min_seconds)}
        if classifier.health()["backend"]["backend"] == "cpu":
            samples |= _time_parts(classifier, pairs, threads, min_seconds)
        size = classifier.manifest.patch_size
        rows += [_timing(peer, size, batch, threads, times) for peer, times in samples.items()]
    progress(len(batches), len(batches))
    return rows


def cold_start_ms(bundle_folder: str | os.PathLike[str], backend: str = "auto") -> float:
    """Return the time from ``import esccs_edge`` to the first answer in a fresh process.

    Raises:
        BackendError: The process failed.
    """
    command = [sys.executable, "-c", _COLD_START, os.path.abspath(bundle_folder), backend]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=COLD_START_TIMEOUT_S,
        cwd=sys.prefix,  # `-c` imports from the current folder first
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BackendError(f"a fresh process could not classify: {reason}")
    return float(done.stdout.split()[-1])


def host() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, system, library versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name.replace("-", "_"): version(name) for name in ("numpy", "openvino", "esccs-edge")},
    }


def _calls(classifier: Classifier, pairs: list[ScenePair]) -> Callable[[], object]:
    """Return the call that a user would make for so many pairs."""
    opticals, sars = [pair.optical for pair in pairs], [pair.sar for pair in pairs]
    if len(pairs) == 1:
        return partial(classifier.classify, opticals[0], sars[0])
    return partial(classifier.classify_batch, opticals, sars)


def _time_parts(
    classifier: Classifier, batch: list[ScenePair], threads: int | None, min_seconds: float
) -> dict[str, npt.NDArray[np.float64]]:
    """Time one lane without queue and postprocessing, split where its inputs are ready."""
    backend = CpuBackend(
        classifier.bundle, classifier.manifest, max_batch=len(batch), threads=threads
    )
    lane = backend.open_lane()
    splits: list[tuple[float, float]] = []

    def one_batch() -> None:
        start = time.perf_counter()
        lane.start(batch)
        ready = time.perf_counter()
        lane.finish()
        splits.append((ready - start, time.perf_counter() - ready))

    try:
        rounds = len(_time(one_batch, min_seconds))
    finally:
        lane.close()
        backend.close()
    preprocess_ms, inference_ms = np.asarray(splits[-rounds:]).T * 1e3
    return {"esccs-edge preprocess": preprocess_ms, "esccs-edge inference": inference_ms}


def _time(call: Callable[[], object], min_seconds: float) -> npt.NDArray[np.float64]:
    """Return the duration of each call in milliseconds."""
    for _ in range(WARMUP_ROUNDS):
        call()
    samples: list[float] = []
    begin = time.perf_counter()
    while len(samples) < MIN_ROUNDS or time.perf_counter() - begin < min_seconds:
        start = time.perf_counter()
        call()
        samples.append((time.perf_counter() - start) * 1e3)
    return np.asarray(samples)


def _timing(
    peer: str, patch: int, batch: int, threads: int | None, samples: npt.NDArray[np.float64]
) -> Timing:
    p50, p90, p99 = np.percentile(samples, [50, 90, 99]).tolist()
    return Timing(peer, patch, batch, threads, p50, p90, p99, batch * 1e3 / p50)


def _processor() -> str:
    """Linux tells the model name in /proc/cpuinfo; elsewhere the platform module knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.lower().startswith(("model name", "model\t")) and ":" in line:
                name = line.split(":", 1)[1].strip()
                if not name.isdigit():
                    return name
    return platform.processor() or platform.machine()
