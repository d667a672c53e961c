"""The table of a comparison of segmentation: one row per method, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS

from ..judging.map_metrics import PIXELS
from ..methods.maps import METHODS, REFERENCE
from .map_ranking import Counted, miou_alone, miou_lead
from .map_summary import points
from .run_files import Row


def map_row(name: str, runs: Sequence[Row], counted: Counted) -> Row:
    """Average the runs of one method.

    Args:
        name: The method.
        runs: Its runs, one per seed.
        counted: What all methods counted.
    """
    own = miou_alone(counted, name, "all")
    overall = [run["metrics"]["overall"] for run in runs]
    miou = [part["all"]["miou"] for part in overall]
    row: Row = {
        "method": name,
        "seeds": len(runs),
        "miou_mean": own.value if own else None,
        "miou_low": own.low if own else None,
        "miou_high": own.high if own else None,
        "miou_sd": float(np.std(miou, ddof=1)) if len(miou) > 1 else None,
        "clear_mean": _mean([part["clear"]["miou"] for part in overall]),
        "cloudy_mean": _mean([part["cloudy"]["miou"] for part in overall]),
        "oa_mean": _mean([part["all"]["oa"] for part in overall]),
        "clear_sky_mean": _mean([r["metrics_clear"]["overall"]["all"]["miou"] for r in runs]),
    }
    for pixels in PIXELS:
        row |= _gain(f"ours_gain_{pixels}", name, counted, pixels)
    row["core_hours_mean"] = _mean([run["cpu_s"] / 3600 for run in runs])
    row["wall_s_mean"] = _mean([run["wall_s"] for run in runs])
    for cloud_bin in CLOUD_BINS:
        for pixels in PIXELS:
            parts = [run["metrics"]["by_cloud"][cloud_bin][pixels]["miou"] for run in runs]
            row[cloud_bin if pixels == "all" else f"{cloud_bin} {pixels}"] = _mean(parts)
    return row


def map_table(rows: Sequence[Row], run: Mapping[str, Any]) -> str:
    """Return the table for people.

    Args:
        rows: See `map_row`.
        run: One run, which says what is simulated.
    """
    names = ["method", "seeds", "mIoU (95 %)", "sd", "clear pixels", "cloudy pixels",
             *(f"{name} %" for name in CLOUD_BINS), "clear sky", "OA",
             f"{REFERENCE} ahead by (95 %)", "cloudy pixels, ahead by", "core-hours",
             "what it is"]  # fmt: skip
    shown = ("miou_sd", "clear_mean", "cloudy_mean", *CLOUD_BINS, "clear_sky_mean", "oa_mean")
    lines = [
        "mIoU, overall and by cloud cover; means over seeds.",
        "In brackets 95 % of a crossed bootstrap over judged places and seeds, in points where",
        f"{REFERENCE} is ahead of the method (paired). Core-hours are those of a run's own",
        "training, without the teacher. Only rows that are told the same, see below, compete.",
        f"Simulated in the judged images: {', '.join(run['simulated']) or 'nothing'}.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + " --- |" * len(names),
    ]
    for row in rows:
        interval = "" if row["miou_low"] is None else (
            f" [{row['miou_low']:.3f}, {row['miou_high']:.3f}]"
        )  # fmt: skip
        gains = [points(_of(row, f"ours_gain_{pixels}")) for pixels in ("all", "cloudy")]
        cells = [
            row["method"], str(row["seeds"]), _cell(row["miou_mean"]) + interval,
            *(_cell(row[name]) for name in shown), *gains, _cell(row["core_hours_mean"]),
            METHODS[row["method"]].adds,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _gain(column: str, name: str, counted: Counted, pixels: str) -> Row:
    """How far the reference is ahead of a method; empty for itself, or where it was not run."""
    is_behind = name != REFERENCE and REFERENCE in counted
    found = miou_lead(counted, REFERENCE, name, pixels) if is_behind else None
    parts = {column: "value", f"{column}_low": "low", f"{column}_high": "high", f"{column}_p": "p"}
    return {key: getattr(found, part) if found else None for key, part in parts.items()}


def _of(row: Row, column: str) -> dict[str, float | None]:
    return {"value": row[column], "low": row[f"{column}_low"], "high": row[f"{column}_high"]}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
