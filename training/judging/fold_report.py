"""Numbers of a cross-validation: each pair judged by the one model that never saw its place.

Temperatures are fitted crosswise: that of a fold on the answers of the other folds, on labeled
pairs under clouds and, with the teacher's sure answers for labels, on real pairs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Labels
from esccs_edge.errors import InputError

from ..datasets.triplets import Chips
from .agreement import JudgedChips
from .fold_answers import FoldAnswers
from .metrics import (
    balanced_accuracy,
    calibration_error_by_chance,
    confusion_matrix,
    expected_calibration_error,
    rank_correlation,
)
from .real_chips import BOTH, INPUTS, compared
from .temperature import fit_temperature

#: The teacher's answer on a clear image counts as a label above this probability.
SURE = 0.5

Logits = npt.NDArray[np.float32]


def fold_report(folds: Sequence[FoldAnswers], judged: Chips | None = None) -> dict[str, Any]:
    """Sum up the answers of all folds.

    Args:
        folds: Answers of each fold.
        judged: The real pairs side by side with a judge's labels; see `clear_judge.with_judge`.

    Returns:
        ``labeled``: what was shown -> ``balanced_accuracy`` (mean over folds), ``folds`` (each) and
        ``ece``; ``temperature``, fitted on all folds, and ``temperatures``, each fitted on the
        others; with a judge also ``real`` as `agreement.agreement` gives it, with ``differences``
        and, of the row with both modalities, ``ece``, ``ece_by_chance`` and
        ``gate_rank_correlation`` (share of optical against cover, over all chips).

    Raises:
        InputError: The judge knows none of the real pairs.
    """
    temperatures = [_temperature([other for other in folds if other is not fold]) for fold in folds]
    report: dict[str, Any] = {
        "labeled": {
            shown: _labeled([fold.logits[shown] for fold in folds], folds, temperatures)
            for shown in folds[0].logits
        },
        "temperature": _temperature(folds),
        "temperatures": temperatures,
    }
    if judged is not None:
        report["real"] = _real(folds, temperatures, judged)
    return report


def read_report(path: str | Path) -> dict[str, Any]:
    """Read the report of a cross-validation.

    Raises:
        InputError: The file is none.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the report {path}: {error}") from error
    if not isinstance(report, dict) or not {"labeled", "temperature"} <= report.keys():
        raise InputError(
            f"{path} is no report of a cross-validation, expected labeled and temperature in it",
            hint="Give OUT/report.json of `esccs-edge cross-validate`",
        )
    return report


def _labeled(
    logits: Sequence[Logits], folds: Sequence[FoldAnswers], temperatures: Sequence[float]
) -> dict[str, Any]:
    accuracies = [
        balanced_accuracy(confusion_matrix(fold.labels, part.argmax(axis=1), part.shape[1]))
        for fold, part in zip(folds, logits, strict=True)
    ]
    confidence, right = _tempered(
        logits, temperatures, np.concatenate([fold.labels for fold in folds])
    )
    return {
        "balanced_accuracy": float(np.mean(accuracies)),
        "folds": accuracies,
        "ece": expected_calibration_error(confidence, right),
    }


def _real(
    folds: Sequence[FoldAnswers], temperatures: Sequence[float], judged: Chips
) -> dict[str, Any]:
    label_of = dict(zip(map(tuple, judged.corners), judged.labels.tolist(), strict=True))
    labels = [
        np.array([label_of.get(tuple(corner), -1) for corner in fold.real_corner.tolist()])
        for fold in folds
    ]
    known = [part >= 0 for part in labels]
    if not any(part.any() for part in known):
        raise InputError(f"the judge knows none of the real pairs of {judged.name}")

    def together(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate([part[keep] for part, keep in zip(parts, known, strict=True)])

    chips = JudgedChips(
        together(labels),
        together([fold.real_place for fold in folds]),
        together([fold.real_cover for fold in folds]),
        judged.classes,
    )
    answers: Mapping[str, Labels] = {
        name: together([fold.real_logits[name].argmax(axis=1) for fold in folds])
        for name in [*INPUTS, "teacher"]
    }
    both = [fold.real_logits[BOTH][keep] for fold, keep in zip(folds, known, strict=True)]
    confidence, right = _tempered(both, temperatures, chips.labels)
    gate = np.concatenate([fold.real_gate for fold in folds])
    cover = np.concatenate([fold.real_cover for fold in folds])
    return {
        **compared(chips, answers),
        "ece": expected_calibration_error(confidence, right),
        "ece_by_chance": calibration_error_by_chance(confidence),
        "gate_rank_correlation": rank_correlation(gate, cover),
    }


def _tempered(
    logits: Sequence[Logits], temperatures: Sequence[float], labels: Labels
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Confidence and rightness of all answers, each fold under its temperature."""
    scaled = np.concatenate(
        [part.astype(np.float64) / t for part, t in zip(logits, temperatures, strict=True)]
    )
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    confidence = weights.max(axis=1) / weights.sum(axis=1)
    return confidence, scaled.argmax(axis=1) == labels


def _temperature(folds: Sequence[FoldAnswers]) -> float:
    """Fit one temperature; labeled and real pairs weigh alike."""
    logits = [part for fold in folds for part in fold.logits.values()]
    labels = [fold.labels for fold in folds for _ in fold.logits]
    real_logits, real_labels = [], []
    for fold in folds:
        if fold.real_logits:
            taught = fold.real_logits["teacher"].astype(np.float64)
            weights = np.exp(taught - taught.max(axis=1, keepdims=True))
            sure = 1 / weights.sum(axis=1) > SURE
            for name, (image, has_sar) in INPUTS.items():
                if image and has_sar:
                    real_logits.append(fold.real_logits[name][sure])
                    real_labels.append(taught.argmax(axis=1)[sure])
    if real := sum(map(len, real_labels)):
        times = max(1, round(sum(map(len, labels)) / real))
        logits += real_logits * times
        labels += real_labels * times
    return fit_temperature(np.concatenate(logits).astype(np.float64), np.concatenate(labels))
