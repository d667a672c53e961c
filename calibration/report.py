"""The calibration report: what INT8 costs, in JSON for programs and as a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .measure import FloatArray, LabelArray, accuracy, accuracy_by_cloud, loss_in_points
from .recipe import Recipe
from .sampler import PairList

REPORT_VERSION = 1
SCHEME = "int8 Q/DQ, symmetric, zero point 0"
#: Tensors shown in the table: those that lose most.
WORST_TENSORS = 6


@dataclass(frozen=True)
class Measured:
    """All that was seen during one calibration.

    Attributes:
        pairs: The drawn pairs.
        checks: Statistics that tell real data from noise.
        exact: Float logits ``(N, K)`` on the held-out pairs.
        labels: Their classes ``(N,)``.
        logits: INT8 logits by method.
        chosen: The method kept.
        float_stems: Whether the first convolutions stayed float.
        recipe: What became INT8.
        tensors: Error of each quantised tensor.
    """

    pairs: PairList
    checks: Mapping[str, float]
    exact: FloatArray
    labels: LabelArray
    logits: Mapping[str, FloatArray]
    chosen: str
    float_stems: bool
    recipe: Recipe
    tensors: Sequence[Mapping[str, str | float]]


def calibration_report(
    measured: Measured, *, list_sha256: str, source_sha256: str, file_bytes: Mapping[str, int]
) -> dict[str, Any]:
    """Return the report as a JSON-ready dictionary; accuracies are shares, losses are points."""
    kept = measured.logits[measured.chosen]
    loss, error = loss_in_points(measured.exact, kept, measured.labels)
    return {
        "version": REPORT_VERSION,
        "scheme": SCHEME,
        "method": measured.chosen,
        "float_stems": measured.float_stems,
        "float_nodes": list(measured.recipe.float_nodes),
        "seed": measured.pairs.seed,
        "pairs": {
            "calibration": len(measured.pairs.calibration),
            "held_out": len(measured.pairs.held_out),
            "list_sha256": list_sha256,
        },
        "source_sha256": source_sha256,
        "bytes": dict(file_bytes),
        "fp32": _scores(measured.exact, measured),
        "int8": _scores(kept, measured),
        "balanced_accuracy_loss_points": round(loss, 3),
        "loss_standard_error_points": round(error, 3),
        "label_agreement": _agreement(measured.exact, kept),
        "methods": [_method_row(name, measured) for name in measured.logits],
        "tensors": [dict(row) for row in measured.tensors],
        "data_checks": {name: round(value, 4) for name, value in measured.checks.items()},
        "notes": [*measured.pairs.notes, *_doubts(measured)],
    }


def quantization_summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a report that the manifest carries."""
    return {
        "scheme": report["scheme"],
        "weights": "int8, one scale per output channel (axis 0)",
        "activations": "int8, one scale per tensor",
        "method": report["method"],
        "float_nodes": report["float_nodes"],
        "calibration_pairs": report["pairs"]["calibration"],
        "held_out_pairs": report["pairs"]["held_out"],
        "list_sha256": report["pairs"]["list_sha256"],
        "seed": report["seed"],
        "source_sha256": report["source_sha256"],
        "balanced_accuracy": {
            "fp32": report["fp32"]["overall"]["balanced_accuracy"],
            "int8": report["int8"]["overall"]["balanced_accuracy"],
        },
        "label_agreement": report["label_agreement"],
    }


def report_as_json(report: Mapping[str, Any]) -> str:
    """Return the text of `calibration.json`."""
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def report_as_table(report: Mapping[str, Any]) -> str:
    """Return the report for people, 80 columns wide."""
    size = list(report["bytes"].values())
    lines = [
        f"INT8 calibration: {report['method']}, {report['pairs']['calibration']} pairs measured, "
        f"{report['pairs']['held_out']} held out, seed {report['seed']}",
        "",
        f"{'held-out pairs':22}{'n':>6}{'FP32':>9}{'INT8':>9}   balanced accuracy, %",
        _score_line("all", report["fp32"]["overall"], report["int8"]["overall"]),
        _score_line(
            "all, overall acc.", report["fp32"]["overall"], report["int8"]["overall"], "oa"
        ),
    ]
    for name, before in report["fp32"]["by_cloud"].items():
        lines.append(_score_line(f"cloud {name} %", before, report["int8"]["by_cloud"][name]))
    lines += [
        "",
        f"loss {report['balanced_accuracy_loss_points']:.2f} +- "
        f"{report['loss_standard_error_points']:.2f} points; same label on "
        f"{100 * report['label_agreement']:.1f} % of pairs",
        f"size {size[0] / 1e6:.2f} MB -> {size[1] / 1e6:.2f} MB ({size[0] / size[1]:.1f} x)",
        "",
        f"{'method':14}{'balanced acc., %':>18}{'same label, %':>15}{'logit MSE':>13}",
    ]
    for row in report["methods"]:
        mark = "  kept" if row["method"] == report["method"] else ""
        lines.append(
            f"{row['method']:14}{100 * row['balanced_accuracy']:18.2f}"
            f"{100 * row['label_agreement']:15.1f}{row['logit_mse']:13.3g}{mark}"
        )
    lines += ["", f"{'largest errors':44}{'kind':12}{'SQNR, dB':>10}"]
    for row in sorted(report["tensors"], key=lambda row: row["sqnr_db"])[:WORST_TENSORS]:
        lines.append(f"{row['tensor']:44}{row['kind']:12}{row['sqnr_db']:10.1f}")
    lines += ["", f"float: {', '.join(report['float_nodes'])}; pooling and gate"]
    return "\n".join([*lines, *(f"note: {note}" for note in report["notes"])]) + "\n"


def _scores(logits: FloatArray, measured: Measured) -> dict[str, Any]:
    by_cloud = accuracy_by_cloud(logits, measured.labels, measured.pairs.held_out)
    return {
        "overall": accuracy(logits, measured.labels).to_dict(),
        "by_cloud": {name: score.to_dict() for name, score in by_cloud.items()},
    }


def _doubts(measured: Measured) -> list[str]:
    """Say so when the float model cannot do the task on these pairs: INT8 then cannot lose."""
    found = accuracy(measured.exact, measured.labels).oa
    most_frequent = float(np.bincount(measured.labels).max()) / len(measured.labels)
    error = np.sqrt(most_frequent * (1 - most_frequent) / len(measured.labels))
    if found > most_frequent + 2 * error:
        return []
    return [
        f"the float model is right on {100 * found:.0f} % of these pairs, hardly more than naming "
        f"the most frequent class ({100 * most_frequent:.0f} %): are they what it was trained for?"
    ]


def _method_row(name: str, measured: Measured) -> dict[str, Any]:
    logits = measured.logits[name]
    return {
        "method": name,
        **accuracy(logits, measured.labels).to_dict(),
        "label_agreement": _agreement(measured.exact, logits),
        "logit_mse": float(np.mean((logits - measured.exact) ** 2)),
    }


def _agreement(first: FloatArray, second: FloatArray) -> float:
    return float(np.mean(first.argmax(axis=1) == second.argmax(axis=1)))


def _score_line(
    name: str,
    before: Mapping[str, float],
    after: Mapping[str, float],
    metric: str = "balanced_accuracy",
) -> str:
    shares = (100 * score[metric] for score in (before, after))
    return f"{name:22}{before['n']:6d}" + "".join(f"{share:9.2f}" for share in shares)
