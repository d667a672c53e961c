"""An equal number of trials for every method, on places that are never judged.

One thing is tried, since it is the one that every method has: the learning rate of its stages, as a
multiple of that of the run. Trials run on a seed of their own and are scored on its validation
pairs under clouds; the best one then holds for all seeds that are judged. ESCCS with a change takes
what ESCCS chose, so that the change is all that differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic

from ..kept_files import kept_json
from ..methods import FAMILIES, METHODS
from ..methods.method import Method
from ..methods.prepared import PREPARED
from ..methods.shared import Shared
from ..scene_options import TrainOptions

#: What is tried, in this order.
RATES = (1.0, 1 / 3, 3.0)
#: Its training and validation places are drawn by this seed; no judged run has it.
TRIAL_SEED = 1000
#: Whose choice other rows take.
ESCCS = "esccs"


@dataclass(frozen=True)
class Trials:
    """Where the trials of a comparison are.

    Attributes:
        folder: Of the comparison.
        count: Settings that are tried for each method; 0: none.
    """

    folder: Path
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= len(RATES):
            raise InputError(f"{self.count} trials, expected from 0 to {len(RATES)}")

    def of(self, name: str) -> int:
        """Return how many settings were tried for a row."""
        return self.count if METHODS[name].gifts.stages else 0

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the rows whose trials are not finished."""
        tuned = dict.fromkeys(tuned_as(name) for name in names if self.of(name))
        return [name for name in tuned if not self.record(name).is_file()]

    def record(self, name: str) -> Path:
        """Return the file of a row's trials."""
        return self.folder / "trials" / f"{name}.json"

    def write(self, name: str, scores: Mapping[float, float]) -> None:
        """Keep the scores of a row; the first of equal ones counts as the best."""
        best = max(scores, key=lambda rate: scores[rate])
        tried = [{"rate": rate, "balanced_accuracy": score} for rate, score in scores.items()]
        write_atomic(self.record(name), json.dumps({"best": best, "tried": tried}, indent=2) + "\n")

    def rate(self, name: str) -> float:
        """Return the learning rate of a row as a multiple of the run's."""
        if not self.of(name):
            return 1.0
        return float(kept_json(self.record(tuned_as(name)))["best"])


def tuned_as(name: str) -> str:
    """Return the row whose choice a row takes: itself, or ESCCS where it is a part of it."""
    parts = (*FAMILIES["ESCCS with a change"], "optical-auxiliary", "sar-auxiliary")
    return ESCCS if name in parts else name


def at_rate(shared: Shared, name: str, rate: float) -> Shared:
    """Return what a row shares, with its learning rate, in a folder of its own.

    What the row needs beside the teacher is trained at that rate too.
    """
    if rate == 1.0:
        return shared
    method: Method = METHODS[name]
    run = shared.run.with_options(
        scaled(shared.run.options, rate), shared.run.folder / f"{name}-rate-{rate:.3g}"
    )
    found = replace(shared, run=run, auxiliaries=None, paper_auxiliaries=None, crosswise=None)
    for need in method.needs:
        found = PREPARED[need](found)
    return found


def scaled(options: TrainOptions, rate: float) -> TrainOptions:
    """Return the options with the learning rate of all stages after the teacher multiplied."""
    parts = {}
    for part in ("auxiliary", "student"):
        own = getattr(options, part)
        schedule = replace(own.schedule, learning_rate=rate * own.schedule.learning_rate)
        parts[part] = replace(own, schedule=schedule)
    return options.evolve(**parts)
