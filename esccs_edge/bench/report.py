"""What `bench` found, for people: a plain table for the terminal, Markdown for a page.

Both are made from the JSON document, so that a page can be made again from the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..view.markdown import markdown_table
from .measure import Plan
from .rows import BenchResult

Document = Mapping[str, Any]
Row = Mapping[str, Any]

_PARTS = ("preprocess_ms", "inference_ms", "postprocess_ms", "queue_ms")
_TIMES = ("p50_ms", "p90_ms", "p99_ms")


def document(found: BenchResult, plan: Plan) -> dict[str, Any]:
    """Return the JSON form; the figures of the cold start stand at its top level."""
    whole = asdict(found)
    return {**whole.pop("start"), **whole, "plan": asdict(plan)}


def table(document: Document) -> str:
    """Return the rows for a terminal."""
    lines = [
        _setting(document),
        f"{'batch':>6}{'threads':>8}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}{'pairs/s':>10}",
    ]
    for row in document["rows"]:
        times = "".join(f"{row[name]:>10.3f}" for name in _TIMES)
        lines.append(f"{row['batch']:>6}{_threads(row):>8}{times}{row['pairs_per_s']:>10.0f}")
    for row in document["parts"]:
        spent = [f"{name.removesuffix('_ms')} {row[name]:.3f}" for name in _PARTS if row[name]]
        lines.append(
            f"parts of batch {row['batch']}, threads {_threads(row)}, ms: {', '.join(spent)}"
        )
    joules = [row["joules_per_pair"] for row in document["rows"] if row["joules_per_pair"]]
    if joules:
        lines.append(f"energy at best {1e3 * min(joules):.3f} mJ per pair ({document['energy']})")
    return "\n".join([*lines, _start(document)])


def markdown(document: Document) -> str:
    """Return the page."""
    energy = document["energy"] or "not measured, this host reports none"
    blocks = [
        f"{_setting(document)} {document['plan']['seconds']:g} s for each row. Energy: {energy}.",
        markdown_table(
            ["batch", "threads", "p50 ms", "p90 ms", "p99 ms", "pairs/s", "J per pair", "calls"],
            [
                [str(row["batch"]), _threads(row), *(_number(row[name], 3) for name in _TIMES),
                 f"{row['pairs_per_s']:.0f}", _number(row["joules_per_pair"], 4), str(row["calls"])]
                for row in document["rows"]
            ],
        ),
    ]  # fmt: skip
    if document["parts"]:
        rows = [
            [str(row["batch"]), _threads(row), *(_number(row[name], 3) for name in _PARTS)]
            for row in document["parts"]
        ]
        names = [name.replace("_", " ") for name in _PARTS]
        blocks += ["### Parts", markdown_table(["batch", "threads", *names], rows)]
    blocks += ["### Start and memory", f"{_start(document)}."]
    return "\n\n".join(blocks) + "\n"


def _setting(document: Document) -> str:
    host, bundle = document["host"], document["backend"]["bundle"]
    device = document["backend"]["backend"]
    runs = ", ".join(str(device[name]) for name in ("model", "precision") if device.get(name))
    load = "" if host["load_1min"] is None else f", load {host['load_1min']:.2f} at the start"
    return (
        f"Bundle {bundle['name']} ({device['backend']} backend, {runs}) on {host['processor']}, "
        f"{host['cores']} cores{load}; "
        f"Python {host['python']}, openvino {host['openvino']}, numpy {host['numpy']}."
    )


def _start(document: Document) -> str:
    memory = document["peak_rss_mb"]
    return (
        f"cold start (process start to first label) {document['cold_start_ms']:.0f} ms, of it "
        f"imports {document['import_ms']:.0f} ms"
        + (f"; peak memory {memory:.0f} MB" if memory else "")
    )


def _threads(row: Row) -> str:
    return "all" if row["threads"] is None else str(row["threads"])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
