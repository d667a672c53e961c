"""Methods on real chips: the answers of all folds together, each by a model without the place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge.system.atomic import write_atomic

from ..judging.agreement import JudgedChips, agreement, agreement_table, difference
from .recorded_answers import RecordedAnswers
from .run_files import RunFiles
from .summary import REFERENCE

AGREEMENT_NAME = "agreement"


def fold_agreement(
    folder: Path, methods: Sequence[str], seeds: int, classes: Sequence[str]
) -> dict[str, Any]:
    """Join the answers of the seeds, of which each held out another fold of places.

    Args:
        folder: Of the comparison.
        methods: Rows.
        seeds: Runs per method; with fewer than there are folds, some places are not judged.
        classes: Class names in the order of the answers.

    Returns:
        As `agreement.agreement`, and ``differences``: ESCCS minus each other row.
    """
    files = RunFiles(folder)
    answers = {
        name: [RecordedAnswers.read(files, name, seed) for seed in range(seeds)] for name in methods
    }
    first = answers[methods[0]]
    names = [run["places"] for run in files.records({methods[0]: seeds})[methods[0]]]
    places = [[known[str(n)] for n in run.places] for run, known in zip(first, names, strict=True)]
    chips = JudgedChips(
        np.concatenate([run.judged.labels for run in first]),
        np.concatenate(places),
        np.concatenate([run.judged.cover for run in first]),
        tuple(classes),
    )
    rows = {
        name: np.concatenate([run.judged.probabilities.argmax(axis=1) for run in runs])
        for name, runs in answers.items()
    }
    report = agreement(chips, rows)
    others = [name for name in methods if name != REFERENCE and REFERENCE in rows]
    report["differences"] = {
        f"{REFERENCE} - {name}": difference(chips, rows[REFERENCE], rows[name]) for name in others
    }
    return report


def write_agreement(
    folder: Path, methods: Sequence[str], seeds: int, classes: Sequence[str]
) -> None:
    """Write ``agreement.json`` and ``agreement.txt``, and put the latter before the table."""
    report = fold_agreement(folder, methods, seeds, classes)
    write_atomic(folder / f"{AGREEMENT_NAME}.json", json.dumps(report, indent=2) + "\n")
    text = agreement_table(report)
    write_atomic(folder / f"{AGREEMENT_NAME}.txt", text + "\n")
    table = folder / "table.md"
    means = (
        "Below, balanced accuracy and its intervals are of all folds' answers together; the other "
        "columns are means over the folds, of which each has other places and classes:"
    )
    write_atomic(table, f"```text\n{text}\n```\n\n{means}\n\n" + table.read_text(encoding="utf-8"))
