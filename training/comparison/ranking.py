"""Rows of scene classification in balanced accuracy: alone, and one against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..methods import METHODS
from ..methods.told import Told
from .contest import Contest
from .recorded_answers import RecordedAnswers
from .significance import Difference, Verdict, crossed_difference

Recorded = Mapping[str, Sequence[RecordedAnswers]]


def contest(reference: str, rows: Sequence[str], told: Mapping[str, Told]) -> Contest:
    """Let rows compete with a reference; rows that count as not reproduced stay out.

    Raises:
        ValueError: A row is told more or less than the reference.
    """
    able = [name for name in rows if name == reference or METHODS[name].reproduced]
    return Contest.of(reference, able, told)


def paired(recorded: Recorded, first: str, second: str) -> Difference:
    """Return one row's balanced accuracy minus another's, over the seeds that both ran."""
    runs = zip(recorded[first], recorded[second], strict=False)  # some rows run with fewer seeds
    return crossed_difference(
        [
            Verdict(one.judged.labels, _answers(one), _answers(other), one.places)
            for one, other in runs
        ]
    )


def alone(runs: Sequence[RecordedAnswers]) -> Difference:
    """Return a row's balanced accuracy: its lead over a method that is never right."""
    return crossed_difference(
        [
            Verdict(run.judged.labels, _answers(run), np.full(len(run.places), -1), run.places)
            for run in runs
        ]
    )


def _answers(run: RecordedAnswers) -> Any:
    return run.judged.probabilities.argmax(axis=1)
