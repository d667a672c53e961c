"""The table of a comparison: one row per method, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS

from ..judging.evaluate import simulated_words

Row = dict[str, Any]
Interval = tuple[float, float]


def table_row(name: str, runs: Sequence[Row], interval: Interval | None) -> Row:
    """Average the runs of one method.

    Args:
        name: The method.
        runs: Its runs, one per seed.
        interval: Of ESCCS minus this method, in balanced accuracy; None where there is none.
    """
    overall = [run["metrics"]["overall"] for run in runs]
    balanced = [part["balanced_accuracy"] for part in overall]
    clear = [run["metrics_clear"]["overall"] for run in runs if run["metrics_clear"]]
    row: Row = {
        "method": name,
        "balanced_accuracy_mean": _mean(balanced),
        "balanced_accuracy_sd": float(np.std(balanced, ddof=1)) if len(balanced) > 1 else None,
        "oa_mean": _mean([part["oa"] for part in overall]),
        "macro_f1_mean": _mean([part["macro_f1"] for part in overall]),
        "ece_mean": _mean([part["ece"] for part in overall]),
        "clear_sky_mean": _mean([part["balanced_accuracy"] for part in clear]),
        "esccs_gain_low": interval[0] if interval else None,
        "esccs_gain_high": interval[1] if interval else None,
        "wall_s_mean": _mean([run["wall_s"] for run in runs]),
        "deployable": runs[0]["deployable"],
    }
    for cloud_bin in CLOUD_BINS:
        parts = [run["metrics"]["by_cloud"][cloud_bin]["balanced_accuracy"] for run in runs]
        row[cloud_bin] = _mean(parts)
    return row


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


def table_md(
    rows: Sequence[Row], seeds: int, adds: Mapping[str, str], simulated: Sequence[str] = ()
) -> str:
    """Return the table for people, with what each method adds to the teacher.

    Args:
        rows: See `table_row`.
        seeds: Runs per method.
        adds: Method -> what it adds.
        simulated: What of the judged pairs is simulated.
    """
    names = ["method", "balanced accuracy", "sd", "OA", *(f"{name} %" for name in CLOUD_BINS),
             "clear sky", "ECE", "ESCCS ahead by (95 %)", "deployable", "adds"]  # fmt: skip
    lines = [
        f"Balanced accuracy, overall and by cloud cover; mean of {seeds} seed(s).",
        "Ahead by: paired bootstrap interval of ESCCS minus the method, in points.",
        "Not deployable: an upper bound, which sees what the target does not offer.",
        f"Simulated in the judged pairs: {simulated_words(simulated) or 'nothing'}.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + " --- |" * len(names),
    ]
    lines += ["| " + " | ".join(_cells(row, adds[row["method"]])) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: Row, adds: str) -> list[str]:
    shown = ("method", "balanced_accuracy_mean", "balanced_accuracy_sd", "oa_mean", *CLOUD_BINS,
             "clear_sky_mean", "ece_mean")  # fmt: skip
    low, high = row["esccs_gain_low"], row["esccs_gain_high"]
    interval = "-" if low is None else f"{100 * low:+.1f} to {100 * high:+.1f}"
    deployable = "yes" if row["deployable"] else "no"
    return [*(_cell(row[name]) for name in shown), interval, deployable, adds]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
