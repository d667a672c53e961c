"""The calibration report: what INT8 costs, in JSON for programs and as a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from esccs_edge.contracts.types import Labels

from .accuracy import Classes, accuracy, accuracy_by_cloud, label_agreement
from .attempts import Attempt, QuantizedModel
from .budget import MEASURES, Budget
from .sampler import PairList

REPORT_VERSION = 1
SCHEME = "int8 Q/DQ, symmetric, zero point 0"
#: Tensors shown in the table: those that lose most.
WORST_TENSORS = 6
#: Share of the float file's size that the INT8 file should stay below.
SIZE_SHARE = 1 / 3


@dataclass(frozen=True)
class CalibrationResult:
    """What one calibration found.

    Attributes:
        pairs: The drawn samples.
        checks: Statistics that separate real data from noise.
        exact: Classes ``(N, ...)`` that the float model gives the held-out samples.
        labels: Their true classes ``(N, ...)``.
        attempts: What was tried in turn; the last one is kept.
        budget: What INT8 may cost.
        finetune_wanted: Fine-tuning was allowed where calibration alone costs too much.
        tensors: Error of each quantized tensor.
    """

    pairs: PairList
    checks: Mapping[str, float]
    exact: Classes
    labels: Labels
    attempts: Sequence[Attempt]
    budget: Budget
    finetune_wanted: bool
    tensors: Sequence[Mapping[str, str | float]]


def calibration_report(
    result: CalibrationResult,
    *,
    list_sha256: str,
    source_sha256: str,
    file_bytes: Mapping[str, int],
) -> dict[str, Any]:
    """Return the report as a JSON-ready dictionary; accuracies are shares, losses are points."""
    kept = result.attempts[-1]
    best, cost = kept.best, kept.cost
    source_size, size = file_bytes.values()
    return {
        "version": REPORT_VERSION,
        "scheme": SCHEME,
        "method": best.method,
        "float_stems": best.float_stems,
        "float_nodes": list(best.recipe.float_nodes),
        "seed": result.pairs.seed,
        "pairs": {
            "calibration": len(result.pairs.calibration),
            "held_out": len(result.pairs.held_out),
            "list_sha256": list_sha256,
        },
        "source_sha256": source_sha256,
        "bytes": dict(file_bytes),
        "size_share": round(size / source_size, 4),
        "size_share_wanted": round(SIZE_SHARE, 4),
        "fp32": _scores(result.exact, result),
        "int8": _scores(best.answers.classes, result),
        "measure": cost.measure,
        f"{cost.measure}_loss_points": round(cost.loss, 3),
        "loss_standard_error_points": round(cost.loss_error, 3),
        "label_agreement": cost.agreement,
        "budget": asdict(result.budget),
        "attempts": [_attempt_row(attempt, result.budget) for attempt in result.attempts],
        "finetune": None if best.learned is None else dict(best.learned),
        "methods": [_method_row(model, result) for model in kept.tried],
        "tensors": [dict(row) for row in result.tensors],
        "data_checks": {name: round(value, 4) for name, value in result.checks.items()},
        "notes": [*result.pairs.notes, *_doubts(result), *_finetune_note(result)],
    }


def quantization_summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a report that the manifest carries."""
    measure = report["measure"]
    return {
        "scheme": report["scheme"],
        "weights": "int8, one scale per output channel",
        "activations": "int8, one scale per tensor",
        "method": report["method"],
        "float_nodes": report["float_nodes"],
        "calibration_pairs": report["pairs"]["calibration"],
        "held_out_pairs": report["pairs"]["held_out"],
        "list_sha256": report["pairs"]["list_sha256"],
        "seed": report["seed"],
        "source_sha256": report["source_sha256"],
        measure: {name: report[name]["overall"][measure] for name in ("fp32", "int8")},
        "label_agreement": report["label_agreement"],
        **({"finetune": report["finetune"]} if report["finetune"] else {}),
    }


def report_as_json(report: Mapping[str, Any]) -> str:
    """Return the text of `calibration.json`."""
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def report_as_table(report: Mapping[str, Any]) -> str:
    """Return the report for people, 80 columns wide."""
    measure = report["measure"]
    size = list(report["bytes"].values())
    lines = [
        f"INT8 calibration: {report['method']}, {report['pairs']['calibration']} samples measured, "
        f"{report['pairs']['held_out']} held out, seed {report['seed']}",
        "",
        f"{'held-out samples':22}{'n':>6}{'FP32':>9}{'INT8':>9}   {MEASURES[measure]}, %",
        _score_line("all", report["fp32"]["overall"], report["int8"]["overall"], measure),
        _score_line(
            "all, overall acc.", report["fp32"]["overall"], report["int8"]["overall"], "oa"
        ),
    ]
    for name, before in report["fp32"]["by_cloud"].items():
        lines.append(
            _score_line(f"cloud {name} %", before, report["int8"]["by_cloud"][name], measure)
        )
    lines += [
        "",
        f"loss {report[f'{measure}_loss_points']:.2f} +- "
        f"{report['loss_standard_error_points']:.2f} points; same label on "
        f"{100 * report['label_agreement']:.1f} % of samples",
        f"size {size[0] / 1e6:.2f} MB -> {size[1] / 1e6:.2f} MB: {100 * report['size_share']:.1f} %"
        f" of it, wanted at most {100 * report['size_share_wanted']:.1f} %",
        *_attempt_lines(report),
        "",
        f"{'method':14}{MEASURES[measure] + ', %':>22}{'same label, %':>15}{'logit MSE':>13}",
    ]
    for row in report["methods"]:
        mark = "  kept" if row["method"] == report["method"] else ""
        lines.append(
            f"{row['method']:14}{100 * row[measure]:22.2f}"
            f"{100 * row['label_agreement']:15.1f}{row['logit_mse']:13.3g}{mark}"
        )
    lines += ["", f"{'largest errors':44}{'kind':12}{'SQNR, dB':>10}"]
    for row in sorted(report["tensors"], key=lambda row: row["sqnr_db"])[:WORST_TENSORS]:
        lines.append(f"{row['tensor']:44}{row['kind']:12}{row['sqnr_db']:10.1f}")
    lines += ["", f"float: {', '.join(report['float_nodes'])}; and all nodes without weights"]
    return "\n".join([*lines, *(f"note: {note}" for note in report["notes"])]) + "\n"


def _scores(classes: Classes, result: CalibrationResult) -> dict[str, Any]:
    by_cloud = accuracy_by_cloud(classes, result.labels, result.pairs.held_out)
    return {
        "overall": accuracy(classes, result.labels).to_dict(),
        "by_cloud": {name: score.to_dict() for name, score in by_cloud.items()},
    }


def _doubts(result: CalibrationResult) -> list[str]:
    """Say so when the float model cannot do the task on these samples: INT8 then cannot lose."""
    found = accuracy(result.exact, result.labels).oa
    known = result.labels[result.labels >= 0]
    most_frequent = float(np.bincount(known).max()) / len(known)
    # The pixels of a sample resemble each other, so that it counts as one answer.
    error = np.sqrt(most_frequent * (1 - most_frequent) / len(result.labels))
    if found > most_frequent + 2 * error:
        return []
    return [
        f"the float model is right on {100 * found:.0f} % of these samples, hardly more than "
        f"naming the most frequent class ({100 * most_frequent:.0f} %): are they what it was "
        "trained for?"
    ]


def _attempt_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what was tried in turn, where the first attempt cost too much."""
    if len(report["attempts"]) == 1:
        return []
    lines = ["", f"{'tried in turn':24}{'loss, points':>18}{'same label, %':>15}"]
    for row in report["attempts"]:
        name = row["method"] + (", float stems" if row["float_stems"] else "")
        loss, error = row[f"{report['measure']}_loss_points"], row["loss_standard_error_points"]
        lines.append(
            f"{name:24}{loss:9.2f} +- {error:5.2f}{100 * row['label_agreement']:15.1f}"
            f"  {'kept' if row['in_budget'] else 'over the budget'}"
        )
    if learned := report["finetune"]:
        lines.append(
            f"fine-tuned from {learned['start']}: {learned['epochs']} epochs of {learned['pairs']} "
            f"samples, error {learned['first_error']:.4f} -> {learned['last_error']:.4f}"
        )
    return lines


def _finetune_note(result: CalibrationResult) -> list[str]:
    if not result.finetune_wanted or result.attempts[-1].best.learned is not None:
        return []
    return ["calibration alone is within the budget, so nothing was fine-tuned"]


def _attempt_row(attempt: Attempt, budget: Budget) -> dict[str, Any]:
    return {
        "method": attempt.best.method,
        "float_stems": attempt.best.float_stems,
        f"{attempt.cost.measure}_loss_points": round(attempt.cost.loss, 3),
        "loss_standard_error_points": round(attempt.cost.loss_error, 3),
        "label_agreement": attempt.cost.agreement,
        "in_budget": budget.allows(attempt.cost),
    }


def _method_row(model: QuantizedModel, result: CalibrationResult) -> dict[str, Any]:
    return {
        "method": model.method,
        **accuracy(model.answers.classes, result.labels).to_dict(),
        "label_agreement": label_agreement(result.exact, model.answers.classes, result.labels)[0],
        "logit_mse": model.answers.logit_mse,
    }


def _score_line(
    name: str,
    before: Mapping[str, float],
    after: Mapping[str, float],
    metric: str,
) -> str:
    shares = (100 * score[metric] for score in (before, after))
    return f"{name:22}{before['n']:6d}" + "".join(f"{share:9.2f}" for share in shares)
