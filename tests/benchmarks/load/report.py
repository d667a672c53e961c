"""The load measurements as one document: judge against the targets, write the files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from esccs_edge.system.atomic import write_atomic
from esccs_edge.view.markdown import markdown_table

from .figure import draw_scaling
from .rows import Scaling, Verdict

#: What a classifier under too much load has to hold.
GOODPUT_OF_PEAK = 0.9
REJECT_P99_MS = 1.0
#: Times the wait that a full queue explains at the measured capacity.
P99_OF_BOUND = 1.5
#: The smallest Python object is larger: below this slope nothing is kept per call.
BYTES_PER_CALL = 16.0


def verdicts(scaling: Scaling) -> list[Verdict]:
    """Hold the highest load and the memory against the targets."""
    most = scaling.overload.rows[-1]
    bound_ms = scaling.overload.bound_ms
    found = [
        Verdict(
            f"goodput at {most.load:g} x the capacity at least {GOODPUT_OF_PEAK:.0%} of the peak",
            f"{most.goodput_of_peak:.0%}",
            most.goodput_of_peak >= GOODPUT_OF_PEAK,
        )
    ]
    if most.reject_p50_ms is not None and most.reject_p99_ms is not None:
        found.append(
            Verdict(
                f"99 % of refusals within {REJECT_P99_MS:g} ms",
                f"p50 {most.reject_p50_ms:.3f} ms, p99 {most.reject_p99_ms:.3f} ms",
                most.reject_p99_ms <= REJECT_P99_MS,
            )
        )
    if most.p99_ms is not None:
        found.append(
            Verdict(
                f"p99 of accepted work within {P99_OF_BOUND:g} x the {bound_ms:.0f} ms that a full "
                "queue takes",
                f"{most.p99_ms:.0f} ms, {most.p99_ms / bound_ms:.2f} x",
                most.p99_ms <= P99_OF_BOUND * bound_ms,
            )
        )
    if scaling.soak is not None:
        found.append(
            Verdict(
                f"memory flat, less than {BYTES_PER_CALL:g} bytes per call",
                f"{scaling.soak.bytes_per_call:.2f} bytes per call in the second half of "
                f"{scaling.soak.calls:,} calls, {scaling.soak.grown_bytes / 2**20:+.2f} MiB in all",
                scaling.soak.bytes_per_call < BYTES_PER_CALL,
            )
        )
    return found


def document(scaling: Scaling, host: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON form, with the host and the verdicts."""
    return {
        "host": dict(host),
        **asdict(scaling),
        "verdicts": [asdict(verdict) for verdict in verdicts(scaling)],
    }


def write_report(folder: str | os.PathLike[str], scaling: Scaling, host: Mapping[str, Any]) -> None:
    """Write ``scaling.json``, ``scaling.md`` and ``scaling.png``, over files of these names."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    write_atomic(target / "scaling.json", json.dumps(document(scaling, host), indent=2) + "\n")
    write_atomic(target / "scaling.md", markdown(scaling, host))
    draw_scaling(target / "scaling.png", scaling)


def markdown(scaling: Scaling, host: Mapping[str, Any]) -> str:
    """Return the report for people."""
    load = scaling.overload
    parts = [
        "# How the classifier scales",
        f"Bundle {scaling.bundle}, CPU backend, pixels of the example scene; {host['processor']}, "
        f"{host['cores']} cores, openvino {host['openvino']}.",
        "![Scaling](scaling.png)",
        markdown_table(
            ("target", "found", "holds"),
            [(v.target, v.found, "yes" if v.holds else "NO") for v in verdicts(scaling)],
        ),
        "## Threads and callers",
        "Each caller submits a pair, waits for its answer, submits the next.",
        markdown_table(
            ("threads", "callers", "pairs/s", "p50 ms", "p99 ms", "mean batch"),
            [
                (r.threads, r.callers, _0(r.pairs_per_s), _2(r.p50_ms), _2(r.p99_ms),
                 _2(r.mean_batch))
                for r in scaling.callers
            ],
        ),
        "## Batch size",
        "One caller of `classify_batch`, all cores.",
        markdown_table(
            ("batch", "pairs/s", "p50 ms", "p99 ms"),
            [(r.batch, _0(r.pairs_per_s), _2(r.p50_ms), _2(r.p99_ms)) for r in scaling.batches],
        ),
        "## Load",
        f"Capacity {load.capacity_per_s:.0f} pairs/s; a full queue and full lanes take "
        f"{load.bound_ms:.0f} ms of it. Arrivals are random (Poisson) and do not wait for answers; "
        "one thread of the same process submits them, and its processor time (client cores) is "
        "taken from the answers. Medians of the rounds.",
        markdown_table(
            ("load", "asked/s", "offered/s", "client cores", "goodput/s", "of peak", "rejected",
             "reject p50 ms", "reject p99 ms", "p50 ms", "p99 ms"),
            [
                (f"{r.load:g} x", _0(r.asked_per_s), _0(r.offered_per_s), _2(r.client_cores),
                 _0(r.goodput_per_s), f"{r.goodput_of_peak:.0%}", f"{r.rejected:.0%}",
                 _3(r.reject_p50_ms), _3(r.reject_p99_ms), _2(r.p50_ms), _2(r.p99_ms))
                for r in load.rows
            ],
        ),
    ]  # fmt: skip
    if scaling.soak is not None:
        run = scaling.soak
        parts += [
            "## Memory",
            f"{run.calls:,} calls of `classify` by one thread, {run.calls_per_s:.0f} a second: "
            f"{run.resident_bytes[0] / 2**20:.1f} MiB before, "
            f"{run.resident_bytes[-1] / 2**20:.1f} MiB after; {run.bytes_per_call:.2f} bytes per "
            "call by a straight line through the samples of the second half.",
        ]
    return "\n\n".join(parts) + "\n"


def _0(value: float) -> str:
    return f"{value:.0f}"


def _2(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _3(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
