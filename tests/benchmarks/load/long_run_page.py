"""The tables of a long run: accounts, faults, the process, broken promises."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from esccs_edge.system.atomic import write_atomic
from esccs_edge.view.markdown import markdown_table

from .ledger import ENDS
from .long_run import LongRun
from .process_state import quarters, slope_per_hour

_MIB = 2**20


def write_long_run(folder: str | os.PathLike[str], run: LongRun, host: Mapping[str, Any]) -> None:
    """Write ``soak.json`` and ``soak.md``, over files of these names."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    document = {"host": dict(host), **asdict(run)}
    write_atomic(target / "soak.json", json.dumps(document, indent=2) + "\n")
    write_atomic(target / "soak.md", long_run_page(run, host))


def long_run_page(run: LongRun, host: Mapping[str, Any]) -> str:
    """Return the page for people."""
    day = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    total = sum(run.asked.values())
    libraries = ", ".join(f"{name} {host[name]}" for name in ("openvino", "numpy", "esccs_edge"))
    parts = [
        "# Soak",
        f"{_duration(run.seconds)} on {day}, {host['processor']}, {host['cores']} cores, "
        f"{host['system']}, Python {host['python']}, {libraries}; {total:,} requests, "
        f"{total / run.seconds:,.0f} a second.",
        "**No promise broke.**" if not run.breaks else f"**{run.breaks:,} promises broke.**",
        *([_list(run.broken)] if run.breaks else []),
        "## Accounts",
        _accounts(run),
        f"The classifier itself counts {run.stats.submitted:,} samples: "
        f"{run.stats.completed:,} answered, {run.stats.failed:,} failed, "
        f"{run.stats.rejected:,} refused, {run.stats.cancelled:,} canceled; health checks and the "
        "patches of maps are among them, pixels that `submit` refuses at once are not.",
        "## Faults made",
        markdown_table(
            ("row", "times"), [(row, f"{count:,}") for row, count in run.faults.items()]
        ),
        "## The process",
        _process(run),
    ]
    return "\n\n".join(parts) + "\n"


def _accounts(run: LongRun) -> str:
    found = {how for ends in run.ended.values() for how in ends}
    ends = [how for how in ENDS if how in found]
    others = sorted(found - set(ENDS))
    rows = []
    for way, asked in run.asked.items():
        counts = run.ended.get(way, {})
        wrong = sum(counts.get(how, 0) for how in others)
        rows.append(
            (way, f"{asked:,}", *(f"{counts.get(how, 0):,}" for how in ends), f"{wrong:,}",
             f"{run.unaccounted[way]:,}")
        )  # fmt: skip
    sums = [sum(int(row[n].replace(",", "")) for row in rows) for n in range(1, len(ends) + 4)]
    rows.append(("all", *(f"{count:,}" for count in sums)))
    return markdown_table(("asked by", "requests", *ends, "wrong", "not accounted for"), rows)


def _process(run: LongRun) -> str:
    rows = []
    for name, field, unit in (
        ("memory, MiB", "resident_bytes", _MIB),
        ("threads", "threads", 1),
        ("descriptors", "descriptors", 1),
    ):
        values = [run.before, *run.states, run.after]
        rows.append(
            (
                name,
                _number(getattr(run.before, field) / unit),
                *(_number(value / unit) for value in quarters(run.states, field)),
                _number(max(getattr(state, field) for state in values) / unit),
                _number(getattr(run.after, field) / unit),
                f"{slope_per_hour(run.states, field) / unit:+.2f}",
            )
        )
    head = ("", "before", "1st quarter", "2nd", "3rd", "4th", "most", "after", "slope per hour")
    return markdown_table(head, rows) + (
        "\n\nQuarters are medians; the slope is that of a straight line through the second half."
    )


def _list(lines: list[str]) -> str:
    return "\n".join(f"* {' '.join(line.split())}" for line in lines)


def _number(value: float) -> str:
    return f"{value:.0f}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.2f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
