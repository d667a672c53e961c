"""The process of one peer: load once, then answer and time short rounds when told to.

One JSON object per line: the task as the first argument, orders on standard input, replies on
standard output. The first reply comes after the first label; what cannot be done is replied as
``{"error": ...}``. `process` holds the other end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .own_peer import OwnPeer
    from .peer import Peer

#: Untimed calls at the start of a round, so that caches hold this peer's data and not another's.
#: A first call that fills the round by itself is timed: what it finds in the caches is soon gone.
WARMUP_CALLS = 2
PERCENTILES = (50, 90, 99)


def main() -> None:
    """Serve one peer until standard input ends."""
    replies = _private_stdout()
    try:
        _serve(json.loads(sys.argv[1]), replies)
    except Exception as error:
        _reply(replies, {"error": _reason(error)})
        sys.exit(1)


def _serve(task: dict[str, Any], replies: IO[str]) -> None:
    from .opening import opener

    open_peer = opener(task["peer"])
    imported_s = time.monotonic() - task["started_s"]
    from ...contracts.bundle import Bundle

    folder = Path(task["pixels"])
    # Mapped, so that all workers share one copy of the pixels.
    optical, sar = (
        np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("optical", "sar")
    )
    peer = open_peer(Bundle.open(task["bundle"]), task["threads"], task["backend"])
    try:
        peer.labels(optical[:1], sar[:1])
        first_label_s = time.monotonic() - task["started_s"]
        facts = {"import_ms": imported_s * 1e3, "first_label_ms": first_label_s * 1e3}
        _reply(replies, {**facts, "peak_rss_mb": peak_rss_mb(), "about": peer.describe()})
        for line in sys.stdin:
            order = json.loads(line)
            batch = order["batch"]
            act = _ACTS[order["do"]]
            _reply(replies, act(peer, optical[:batch], sar[:batch], order))
    finally:
        peer.close()


def _answer(peer: Peer, optical: Any, sar: Any, order: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"labels": peer.labels(optical, sar), "logits": None}
    if order["logits"]:
        answer["logits"] = peer.logits(optical, sar).tolist()
    return answer


def _time(peer: Peer, optical: Any, sar: Any, order: dict[str, Any]) -> dict[str, Any]:
    from ...bench_energy import measured

    with measured(order["meter"]) as energy:
        samples_ms, calls = timed(lambda: peer.labels(optical, sar), order["seconds"])
    return {
        "percentiles_ms": np.percentile(samples_ms, PERCENTILES).tolist(),
        "calls": len(samples_ms),
        "joules_per_call": None if energy.joules is None else energy.joules / calls,
    }


def _parts(peer: Peer, optical: Any, sar: Any, order: dict[str, Any]) -> dict[str, Any]:
    seen: list[dict[str, float]] = []
    timed(lambda: seen.append(peer.parts_ms(optical, sar)), order["seconds"])
    seen = seen[min(WARMUP_CALLS, len(seen) - 1) :]
    parts = {name: float(np.median([parts[name] for parts in seen])) for name in seen[0]}
    if hasattr(peer, "queue_ms") and len(optical) == 1:
        own: OwnPeer = peer  # type: ignore[assignment]
        parts["queue"] = own.queue_ms(optical, sar)
    return parts


_ACTS: dict[str, Callable[[Peer, Any, Any, dict[str, Any]], dict[str, Any]]] = {
    "answer": _answer,
    "time": _time,
    "parts": _parts,
}


def timed(call: Callable[[], object], seconds: float) -> tuple[list[float], int]:
    """Call for about so many seconds.

    Returns:
        Milliseconds of each timed call, one at least, and the calls in all.
    """
    warmups_ms: list[float] = []
    while len(warmups_ms) < WARMUP_CALLS:
        warmups_ms.append(_duration_ms(call))
        if warmups_ms[0] >= seconds * 1e3:
            return warmups_ms, 1
    samples_ms: list[float] = []
    begin = time.perf_counter()
    while not samples_ms or time.perf_counter() - begin < seconds:
        samples_ms.append(_duration_ms(call))
    return samples_ms, len(warmups_ms) + len(samples_ms)


def _duration_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def peak_rss_mb() -> float | None:
    """Return the most memory this process has held, in MB, or None where nobody tells."""
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


def _private_stdout() -> IO[str]:
    """Keep standard output for replies; what a library prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _reply(replies: IO[str], document: dict[str, Any]) -> None:
    replies.write(json.dumps(document) + "\n")
    replies.flush()


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is not installed"
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    main()
