"""The process of one peer: load once, then answer and time short rounds on order.

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
    from .peer import Peer


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
    from esccs_edge.bench.start import peak_rss_mb
    from esccs_edge.contracts.bundle import Bundle

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
    from esccs_edge.bench.timing import timed
    from esccs_edge.power import find_meter
    from esccs_edge.runtime.counters import percentiles_ms

    meter = find_meter(gpu=None) if order["with_energy"] else None
    found = timed(lambda: peer.labels(optical, sar), order["seconds"], meter)
    return {
        "percentiles_ms": list(percentiles_ms(found.times_s).values()),
        "calls": len(found.times_s),
        "joules_per_call": found.joules_per_call,
    }


def _parts(peer: Peer, optical: Any, sar: Any, order: dict[str, Any]) -> dict[str, Any]:
    from esccs_edge.bench.timing import median_parts, timed

    seen: list[dict[str, float]] = []
    timed(lambda: seen.append(peer.parts_ms(optical, sar)), order["seconds"])
    queue_ms = peer.queue_ms(optical, sar) if len(optical) == 1 else None
    return {**median_parts(seen), "queue_ms": queue_ms}


_ACTS: dict[str, Callable[[Peer, Any, Any, dict[str, Any]], dict[str, Any]]] = {
    "answer": _answer,
    "time": _time,
    "parts": _parts,
}


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
