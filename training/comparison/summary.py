"""A comparison in a few numbers: how ESCCS stands among its equals, and where it falls short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS

from ..methods import AS_DRAWN, HEADLINE
from ..methods.told import Told
from .choosing import choosing_bound
from .ranking import Recorded, contest, paired

Row = dict[str, Any]
#: The method that the others are compared to, and the one that its paper draws.
REFERENCE, DRAWN = "esccs", "esccs-paper"
#: Name of a contest -> its reference and its rows.
CONTESTS = {"headline": (REFERENCE, HEADLINE), "as_drawn": (DRAWN, AS_DRAWN)}


def summarize(
    rows: Sequence[Row],
    runs: Mapping[str, Sequence[Row]],
    recorded: Recorded,
    told: Mapping[str, Told],
) -> dict[str, Any]:
    """Return the numbers a reader wants first; all are shares, and means over seeds.

    Args:
        rows: See `table.table_row`.
        runs: Method -> its runs.
        recorded: Method -> its answers.
        told: Method -> what it is told.

    Returns:
        Those of the following whose rows were run, in balanced accuracy.

        - ``headline``: ESCCS among the rows that are given the same; ``as_drawn``: the paper's form
          among the rows of its paper; see `contest.Contest.result`.
        - ``choosing``: what a perfect choice between the auxiliaries would bring; see `choosing`.
        - ``gap_closed``: of the way from source-only to supervised fusion, the share gone.
        - ``worst_bin``: bin where ESCCS is furthest behind (or least ahead of) the best of the
          other rows given the same; ``deficit`` is negative where it leads in every bin.
        - ``clear_sky``: ESCCS on clear images minus the clear teacher.
        - ``calibration``: temperature; expected calibration error of a run, overall and in the
          cloudiest bin, and what a perfectly calibrated model would show on as many pairs.
        - ``gate``: weight of optical by bin, its rank correlation with cover over the bins and over
          pairs, and what the cover is: that of real masks, or what the simulator laid on, which
          the gate learned to follow.
        - ``sar_absent``, ``optical_absent``: ESCCS with one modality, the auxiliary that only
          knows this one, and the difference.

    Raises:
        ValueError: Rows of a contest are not told the same.
    """
    row = {found["method"]: found for found in rows}
    parts: list[Row] = [{"choosing": bound} if (bound := choosing_bound(recorded)) else {}]
    for name, (reference, members) in CONTESTS.items():
        known = [member for member in members if member in row]
        if reference in row and len(known) > 1:
            asked = contest(reference, known, told)
            parts.append({name: asked.result(lambda one, other: paired(recorded, one, other))})
    if REFERENCE in row:
        own = runs[REFERENCE]
        parts += [_gap(row), _worst_bin(row), _clear_sky(row), _gate(own), _calibration(own)]
        for what, auxiliary in (("sar_absent", "optical"), ("optical_absent", "sar")):
            parts.append(_absent(what, own, row.get(f"{auxiliary}-auxiliary")))
    return {name: value for part in parts for name, value in part.items()}


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary in sentences, as a Markdown list."""
    lines = []
    for name, words in (
        ("headline", "rows that are given the same"),
        ("as_drawn", "rows of its paper that are told the same"),
    ):
        if name in summary:
            lines.append(_contest_line(summary[name], words))
    if "choosing" in summary:
        bound = summary["choosing"]["all"]
        lines.append(
            f"Exactly one auxiliary is right on {bound['one_right']:.0%} of the pairs; the better "
            f"one alone has {bound['best']:.3f}, a perfect choice between them would have "
            f"{bound['oracle']:.3f}."
        )
    if "gap_closed" in summary:
        lines.append(
            f"It goes {summary['gap_closed']:.0%} of the way from source-only to supervised fusion."
        )
    if "worst_bin" in summary:
        worst = summary["worst_bin"]
        lines.append(
            f"Bin {worst['bin']} % is its weakest: {_points(-worst['deficit'])} points against "
            f"{worst['method']}, the best there of the rows that are given the same."
        )
    if "clear_sky" in summary:
        lines.append(
            f"On a clear sky: {_points(summary['clear_sky'])} points against the clear teacher."
        )
    lines += _network_lines(summary)
    return [f"- {line}" for line in lines]


def _contest_line(found: Row, words: str) -> str:
    best = found["rivals"][found["best"]]
    interval, p = " (one place, so without an interval)", ""
    if best["low"] is not None:
        interval = f" [{_points(best['low'])}, {_points(best['high'])}]"
        p = f" (p {best['p_holm']:.3f}, Holm over all of them)"
    return (
        f"{found['reference']} among {len(found['rivals'])} {words}: {_points(best['value'])}"
        f"{interval} points of balanced accuracy against the best, {found['best']}{p}, and "
        f"{_points(found['mean_lead'])} against their mean."
    )


def _network_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    if "calibration" in summary:
        found = summary["calibration"]
        lines.append(
            f"Expected calibration error of a run {_errors(found)}. In brackets what a perfectly "
            "calibrated model would show on as many pairs. The temperature is "
            f"{found['temperature']:.2f}, from the validation pairs."
        )
    if "gate" in summary:
        found = summary["gate"]
        lines.append(
            "Rank correlation of the gate's weight of optical with cloud cover "
            f"({found['cover']}): {_number(found['rank_correlation'])} over the bins, "
            f"{_number(found['rank_correlation_over_pairs'])} over pairs."
        )
    for what, words in (("sar_absent", "Without SAR"), ("optical_absent", "Without optical")):
        if what in summary:
            found = summary[what]
            lines.append(
                f"{words}: {found['esccs']:.3f}, the auxiliary for what is left "
                f"{found['auxiliary']:.3f}."
            )
    return lines


def _gap(row: Mapping[str, Row]) -> Row:
    if not {"source-only", "supervised-fusion"} <= row.keys():
        return {}
    low, own, high = (
        row[name]["balanced_accuracy_mean"]
        for name in ("source-only", REFERENCE, "supervised-fusion")
    )
    return {"gap_closed": float((own - low) / (high - low))} if high > low else {}


def _worst_bin(row: Mapping[str, Row]) -> Row:
    others = [row[name] for name in HEADLINE if name in row and name != REFERENCE]
    found = [
        {"bin": cloud_bin, "method": best["method"],
         "deficit": float(best[cloud_bin] - row[REFERENCE][cloud_bin])}
        for cloud_bin in CLOUD_BINS
        if others and row[REFERENCE][cloud_bin] is not None
        for best in [max(others, key=lambda r: r[cloud_bin])]
    ]  # fmt: skip
    return {"worst_bin": max(found, key=lambda part: part["deficit"])} if found else {}


def _clear_sky(row: Mapping[str, Row]) -> Row:
    own, teacher = (
        row.get(name, {}).get("clear_sky_mean") for name in (REFERENCE, "clear-teacher")
    )
    return {} if own is None or teacher is None else {"clear_sky": float(own - teacher)}


def _calibration(own: Sequence[Row]) -> Row:
    temperature = float(np.mean([run["temperature"] for run in own]))
    errors = _mean_errors([run["metrics"] for run in own])
    return {"calibration": {"temperature": temperature, **errors}}


def _mean_errors(reports: Sequence[Row]) -> Row:
    found: Row = {}
    for column in ("ece", "ece_by_chance"):
        cloudiest = [report["by_cloud"][CLOUD_BINS[-1]][column] for report in reports]
        found[column] = float(np.mean([report["overall"][column] for report in reports]))
        found[f"{column}_cloudiest"] = None if None in cloudiest else float(np.mean(cloudiest))
    return found


def _gate(own: Sequence[Row]) -> Row:
    by_cloud = {}
    for cloud_bin in CLOUD_BINS:
        weights = [run["metrics"]["optical_gate"][cloud_bin] for run in own]
        by_cloud[cloud_bin] = None if None in weights else float(np.mean(weights))
    found: Row = {"by_cloud": by_cloud}
    for name in ("rank_correlation", "rank_correlation_over_pairs"):
        known = [run["metrics"][f"gate_{name}"] for run in own]
        found[name] = None if None in known else float(np.mean(known))
    is_simulated = "clouds" in own[0]["simulated"]
    found["cover"] = "as simulated, which it learned" if is_simulated else "of real masks"
    return {"gate": found}


def _absent(what: str, own: Sequence[Row], auxiliary: Row | None) -> Row:
    if auxiliary is None:
        return {}
    mean = float(np.mean([run["metrics"][what]["overall"]["balanced_accuracy"] for run in own]))
    other = float(auxiliary["balanced_accuracy_mean"])
    return {what: {"esccs": mean, "auxiliary": other, "difference": mean - other}}


def _errors(found: Row) -> str:
    return (
        f"{found['ece']:.3f} ({found['ece_by_chance']:.3f}), in the cloudiest bin "
        f"{_number(found['ece_cloudiest'])} ({_number(found['ece_by_chance_cloudiest'])})"
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
