"""A comparison in a few numbers: the lead of ESCCS, and where it falls short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS

from ..judging.judge import Judged
from ..methods import FAMILIES

Row = dict[str, Any]
#: The method that the others are compared to.
REFERENCE = "esccs"
#: The methods that its paper compares it to.
COMPARED = FAMILIES["compared in the paper"]


def summarize(
    rows: Sequence[Row], runs: Mapping[str, Sequence[Row]], judged: Sequence[Judged]
) -> dict[str, Any]:
    """Return the numbers a reader wants first; all are shares, and means over seeds.

    Args:
        rows: See `table.table_row`.
        runs: Method -> its runs.
        judged: What ESCCS answered, one for each of its runs.

    Returns:
        Those of the following whose rows were run; all but ``lead_oa_mean`` in balanced accuracy.

        - ``lead``: method of the paper -> lead of ESCCS; ``lead_mean``, ``lead_oa_mean``.
        - ``gap_closed``: of the way from source-only to supervised fusion, the share gone.
        - ``worst_bin``: bin where ESCCS is furthest behind (or least ahead of) the best of the
          other deployable methods there; ``deficit`` is negative where it leads in every bin.
        - ``clear_sky``: ESCCS on clear images minus the clear teacher.
        - ``calibration``: temperature; expected calibration error, overall and cloudiest bin, and
          what a perfectly calibrated model would show there; ``together``: the same for the
          answers of all seeds taken together, since few pairs show an error by chance alone.
        - ``gate``: weight of optical by bin, and its rank correlation with cover over the bins.
        - ``sar_absent``, ``optical_absent``: ESCCS with one modality, the auxiliary that only
          knows this one, and the difference.
    """
    row = {found["method"]: found for found in rows}
    if REFERENCE not in row:
        return {}
    own = runs[REFERENCE]
    parts = [_lead(row), _gap(row), _worst_bin(row), _clear_sky(row), _gate(own)]
    parts.append(_calibration(own, judged))
    for what, auxiliary in (("sar_absent", "optical"), ("optical_absent", "sar")):
        parts.append(_absent(what, own, row.get(f"{auxiliary}-auxiliary")))
    return {name: value for part in parts for name, value in part.items()}


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary in sentences, as a Markdown list."""
    lines = []
    if "lead" in summary:
        lines.append(
            f"ESCCS leads the {len(summary['lead'])} compared methods of its paper by "
            f"{_points(summary['lead_mean'])} points of balanced accuracy on average "
            f"({_points(summary['lead_oa_mean'])} of OA), the closest, "
            f"{(closest := min(summary['lead'], key=summary['lead'].__getitem__))}, by "
            f"{_points(summary['lead'][closest])}."
        )
    if "gap_closed" in summary:
        lines.append(
            f"It goes {summary['gap_closed']:.0%} of the way from source-only to supervised fusion."
        )
    if "worst_bin" in summary:
        worst = summary["worst_bin"]
        lines.append(
            f"Bin {worst['bin']} % is its weakest: {_points(-worst['deficit'])} points against "
            f"{worst['method']}, the best other deployable method there."
        )
    if "clear_sky" in summary:
        lines.append(
            f"On a clear sky: {_points(summary['clear_sky'])} points against the clear teacher."
        )
    lines += _network_lines(summary)
    return [f"- {line}" for line in lines]


def _network_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    if "calibration" in summary:
        found = summary["calibration"]
        lines.append(
            f"Expected calibration error of a run {_errors(found)}; of all seeds' answers together "
            f"{_errors(found['together'])}. In brackets what a perfectly calibrated model would "
            f"show. The temperature is {found['temperature']:.2f}, from the validation pairs."
        )
    if "gate" in summary:
        lines.append(
            "Rank correlation of the gate's weight of optical with cloud cover, over the bins: "
            f"{_number(summary['gate']['rank_correlation'])}."
        )
    for what, words in (("sar_absent", "Without SAR"), ("optical_absent", "Without optical")):
        if what in summary:
            found = summary[what]
            lines.append(
                f"{words}: {found['esccs']:.3f}, the auxiliary for what is left "
                f"{found['auxiliary']:.3f}."
            )
    return lines


def _lead(row: Mapping[str, Row]) -> Row:
    compared = [name for name in COMPARED if name in row]
    if not compared:
        return {}

    def leads(column: str) -> list[float]:
        return [float(row[REFERENCE][column] - row[name][column]) for name in compared]

    balanced = leads("balanced_accuracy_mean")
    return {
        "lead": dict(zip(compared, balanced, strict=True)),
        "lead_mean": float(np.mean(balanced)),
        "lead_oa_mean": float(np.mean(leads("oa_mean"))),
    }


def _gap(row: Mapping[str, Row]) -> Row:
    if not {"source-only", "supervised-fusion"} <= row.keys():
        return {}
    low, own, high = (
        row[name]["balanced_accuracy_mean"]
        for name in ("source-only", REFERENCE, "supervised-fusion")
    )
    return {"gap_closed": float((own - low) / (high - low))} if high > low else {}


def _worst_bin(row: Mapping[str, Row]) -> Row:
    others = [r for name, r in row.items() if r["deployable"] and name != REFERENCE]
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


def _calibration(own: Sequence[Row], judged: Sequence[Judged]) -> Row:
    together = Judged(
        np.concatenate([part.labels for part in judged]),
        np.concatenate([part.probabilities for part in judged]),
        np.concatenate([part.cover for part in judged]),
    )
    found = {
        "temperature": float(np.mean([run["temperature"] for run in own])),
        **_mean_errors([run["metrics"] for run in own]),
        "together": _mean_errors([together.report()]),
    }
    return {"calibration": found}


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
    known = [run["metrics"]["gate_rank_correlation"] for run in own]
    mean = None if None in known else float(np.mean(known))
    return {"gate": {"by_cloud": by_cloud, "rank_correlation": mean}}


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
