"""What a comparison found, for people: Markdown for a page.

It is made from the JSON document, so that a page can be made again from the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from esccs_edge.view.markdown import markdown_table

from . import OURS, PEERS

Document = Mapping[str, Any]
Row = Mapping[str, Any]

_PARTS = ("preprocess", "inference", "postprocess", "queue")


def markdown(document: Document) -> str:
    """Return the page's measured part."""
    blocks = [_setting(document)]
    for title, rows in _cells(document):
        blocks += [f"### {title}", _latency(rows), _throughput(rows)]
    blocks += ["### Parts, milliseconds", _parts(document["parts"])]
    blocks += ["### Start and memory", _fresh(document["fresh"])]
    blocks += ["### Agreement", _agreement(document["agreement"])]
    if document["absent"]:
        blocks.append("### Absent")
        blocks.append("\n".join(f"* {row['peer']}: {row['reason']}" for row in document["absent"]))
    return "\n\n".join(blocks) + "\n"


def _setting(document: Document) -> str:
    host, plan = document["host"], document["plan"]
    known = ", ".join(
        f"{name} {host[name]}"
        for name in ("openvino", "onnxruntime", "torch", "opencv_python_headless", "numpy")
        if host[name]
    )
    energy = document["energy"] or "not measured, this host reports none"
    return (
        f"{host['processor']}, {host['cores']} cores, load {host['load_1min']:.2f} at the start; "
        f"{host['system']}, Python {host['python']}, {known}. {plan['rounds']} rounds, "
        f"{plan['seconds']:g} s for each row. Energy: {energy}."
    )


def _cells(document: Document) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the rows of each patch size and number of threads, comparisons joined to them."""
    joined = [
        {**against, **row}
        for row, against in zip(document["rows"], document["comparisons"], strict=True)
    ]
    for (patch, threads), rows in groupby(joined, lambda row: (row["patch"], _threads(row))):
        yield f"{patch} x {patch} pixels, threads: {threads}", list(rows)


def _latency(rows: Sequence[Row]) -> str:
    smallest = min(row["batch"] for row in rows)
    return markdown_table(
        [f"batch {smallest}", "p50 ms", "p90 ms", "p99 ms", "x ours", "over rounds", "calls"],
        [
            [
                _name(row), *(f"{row[name]:.3f}" for name in ("p50_ms", "p90_ms", "p99_ms")),
                f"{row['ratio']:.2f}", f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}",
                str(row["calls"]),
            ]
            for row in rows if row["batch"] == smallest
        ],
    )  # fmt: skip


def _throughput(rows: Sequence[Row]) -> str:
    batches = sorted({row["batch"] for row in rows})
    with_energy = any(row["joules_per_pair"] is not None for row in rows)
    lines = []
    for peer in PEERS:
        own = {row["batch"]: row for row in rows if row["peer"] == peer}
        if own:
            cells = [f"{own[b]['pairs_per_s']:.0f} ({own[b]['ratio']:.2f})" for b in batches]
            best = min(own.values(), key=lambda row: -row["pairs_per_s"])
            joules = best["joules_per_pair"]
            lines.append([_name(best), *cells, *([_number(joules, 4)] if with_energy else [])])
    header = ["pairs/s (x ours)", *(f"batch {batch}" for batch in batches)]
    return markdown_table([*header, *(["J per pair, best batch"] if with_energy else [])], lines)


def _parts(rows: Sequence[Row]) -> str:
    return markdown_table(
        ["peer", "patch", "batch", "threads", *_PARTS],
        [
            [_name(row), str(row["patch"]), str(row["batch"]), _threads(row),
             *(_number(row[f"{name}_ms"], 3) for name in _PARTS)]
            for row in rows
        ],
    )  # fmt: skip


def _fresh(rows: Sequence[Row]) -> str:
    return markdown_table(
        ["peer", "start to first label, ms", "of it imports, ms", "peak memory, MB"],
        [
            [_name(row), *(_number(row[name], 0)
                           for name in ("cold_start_ms", "import_ms", "peak_rss_mb"))]
            for row in rows
        ],
    )  # fmt: skip


def _agreement(rows: Sequence[Row]) -> str:
    lines = []
    for peer in PEERS:
        own = [row for row in rows if row["peer"] == peer]
        apart = [row["logits"] for row in own if row["logits"] is not None]
        if own:
            labels = min(row["labels"] for row in own)
            lines.append([_name(own[0]), f"{100 * labels:.1f} %",
                          f"{max(apart):.1e}" if apart else ""])  # fmt: skip
    return markdown_table(["peer", "same label as ours", "largest difference of a logit"], lines)


def _name(row: Row) -> str:
    return f"**{OURS}**" if row["peer"] == OURS else str(row["peer"])


def _threads(row: Row) -> str:
    return "all" if row["threads"] is None else str(row["threads"])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
