"""The table of a comparison: one row per method, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS

from ..judging.evaluate import simulated_words
from .significance import Difference

Row = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What the answers of a method say, each with its interval over places and seeds.

    Attributes:
        own: Its balanced accuracy.
        partly: That on pairs at most partly clouded; None where there are none.
        behind: ESCCS minus it; None for ESCCS itself, or where ESCCS was not run.
        behind_partly: The same on pairs at most partly clouded.
    """

    own: Difference
    partly: Difference | None = None
    behind: Difference | None = None
    behind_partly: Difference | None = None


def table_row(name: str, runs: Sequence[Row], measured: Measured) -> Row:
    """Average the runs of one method.

    Args:
        name: The method.
        runs: Its runs, one per seed.
        measured: Its intervals.
    """
    overall = [run["metrics"]["overall"] for run in runs]
    balanced = [part["balanced_accuracy"] for part in overall]
    clear = [run["metrics_clear"]["overall"] for run in runs if run["metrics_clear"]]
    row: Row = {
        "method": name,
        "seeds": len(runs),
        "balanced_accuracy_mean": measured.own.value,
        "balanced_accuracy_low": measured.own.low,
        "balanced_accuracy_high": measured.own.high,
        "balanced_accuracy_sd": float(np.std(balanced, ddof=1)) if len(balanced) > 1 else None,
        "oa_mean": _mean([part["oa"] for part in overall]),
        "macro_f1_mean": _mean([part["macro_f1"] for part in overall]),
        "ece_mean": _mean([part["ece"] for part in overall]),
        "clear_sky_mean": _mean([part["balanced_accuracy"] for part in clear]),
        "partly_clouded_mean": measured.partly.value if measured.partly else None,
        **_gain("esccs_gain", measured.behind),
        **_gain("esccs_gain_partly_clouded", measured.behind_partly),
        "core_hours_mean": _mean([run["cpu_s"] / 3600 for run in runs]),
        "wall_s_mean": _mean([run["wall_s"] for run in runs]),
        "deployable": runs[0]["deployable"],
        "reproduced": runs[0]["reproduced"],
    }
    for cloud_bin in CLOUD_BINS:
        parts = [run["metrics"]["by_cloud"][cloud_bin]["balanced_accuracy"] for run in runs]
        row[cloud_bin] = _mean(parts)
    return row


def _gain(name: str, found: Difference | None) -> Row:
    parts = ("value", "low", "high", "p")
    return {
        f"{name}{'' if part == 'value' else f'_{part}'}": getattr(found, part) if found else None
        for part in parts
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def table_csv(rows: Sequence[Row]) -> str:
    """Return one line per method; empty where there is no value."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def table_md(rows: Sequence[Row], adds: Mapping[str, str], simulated: Sequence[str] = ()) -> str:
    """Return the table for people, with what each method adds to the teacher.

    Args:
        rows: See `table_row`.
        adds: Method -> what it adds.
        simulated: What of the judged pairs is simulated.
    """
    names = ["method", "seeds", "balanced accuracy (95 %)", "sd", "OA",
             *(f"{name} %" for name in CLOUD_BINS), "0-60 %", "clear sky", "ECE of a run",
             "ESCCS ahead by (95 %)", "at 0-60 % (95 %)", "core-hours", "deployable",
             "adds"]  # fmt: skip
    lines = [
        "Balanced accuracy, overall and by cloud cover; means over seeds.",
        "In brackets 95 % of a crossed bootstrap over judged places and seeds, in points where",
        "ESCCS is ahead of the method (paired). Core-hours are those of a run's own training and",
        "judging, without what rows share. Only rows that are told the same, see below, compete.",
        "Not deployable: an upper bound, which sees what the target does not offer.",
        f"Simulated in the judged pairs: {simulated_words(simulated) or 'nothing'}.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + " --- |" * len(names),
    ]
    lines += ["| " + " | ".join(_cells(row, adds[row["method"]])) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: Row, adds: str) -> list[str]:
    low, high = row["balanced_accuracy_low"], row["balanced_accuracy_high"]
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    accuracy = f"{row['balanced_accuracy_mean']:.3f}{interval}"
    shown = ("balanced_accuracy_sd", "oa_mean", *CLOUD_BINS, "partly_clouded_mean",
             "clear_sky_mean", "ece_mean")  # fmt: skip
    gains = [_points(row, name) for name in ("esccs_gain", "esccs_gain_partly_clouded")]
    return [
        row["method"], str(row["seeds"]), accuracy, *(_cell(row[name]) for name in shown), *gains,
        _cell(row["core_hours_mean"]), "yes" if row["deployable"] else "no", adds,
    ]  # fmt: skip


def _points(row: Row, name: str) -> str:
    if row[name] is None:
        return "-"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = "" if low is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{100 * row[name]:+.1f}{interval}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
