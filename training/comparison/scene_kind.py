"""Comparison of methods of scene classification."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic

from ..datasets import open_dataset
from ..methods import GROUPS, METHODS
from ..methods.told import told, told_table
from ..samples.real_target import open_real_target
from ..samples.train_test_dataset import TrainTestDataset
from .figures import draw_figures
from .fold_agreement import write_agreement
from .kind import Plan
from .ranking import Recorded, alone, paired
from .recorded_answers import RecordedAnswers
from .run_files import Row
from .runs import SeedRuns
from .summary import REFERENCE, summarize, summary_lines
from .table import Measured, table_csv, table_md, table_row
from .trials import TRIAL_SEED, Trials


class SceneComparison:
    """A `Kind`."""

    def methods(self) -> Sequence[str]:
        """Names of all rows."""
        return tuple(METHODS)

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Groups of rows."""
        return GROUPS

    def refused(self, *, has_judge: bool) -> Mapping[str, str]:
        """Rows that learn from the target's labels or dates, where a judge stands in for them."""
        why = "is given labels or dates of the target, and there are none"
        return {
            name: why
            for name, method in METHODS.items()
            if has_judge and (method.gifts.target_labels or method.gifts.joined_views)
        }

    def check_asked(self, plan: Plan) -> None:
        """Refuse trials that nothing could score."""
        _trials(plan)
        if plan.trials and plan.judge:
            raise InputError(
                f"{plan.trials} trials, expected 0 with a judge: there are no labeled validation "
                "pairs",
                hint="Leave out --trials: every method then runs untried, as its options stand",
            )

    def check_data(self, plan: Plan) -> None:
        """Refuse unfit data."""
        if plan.judge:
            open_real_target(plan.train, plan.test, plan.judge, plan.options)
        else:
            TrainTestDataset(open_dataset(plan.train), open_dataset(plan.test))

    def before(self, plan: Plan) -> Mapping[int, Sequence[str]]:
        """The rows whose settings are not tried yet."""
        return {TRIAL_SEED: _trials(plan).missing(tuple(plan.seeds))}

    def open_seed(self, plan: Plan, seed: int) -> SeedRuns:
        """Open the pairs of one seed."""
        return SeedRuns(plan.train, plan.test, plan.files, plan.options, _trials(plan), plan.judge)

    def report(self, plan: Plan) -> tuple[Row, ...]:
        """Write tables, summary and pictures; agreement with the judge where there is one.

        With folds, which a judge brings, each seed judged other places, of other classes too:
        intervals and contests are then over the answers of all folds together.
        """
        files, folder, trials = plan.files, plan.files.folder, _trials(plan)
        by_method = files.records(plan.seeds)
        runs = [run for own in by_method.values() for run in own]
        recorded = {
            name: [RecordedAnswers.read(files, name, seed) for seed in range(count)]
            for name, count in plan.seeds.items()
        }
        compared: Recorded = recorded
        if plan.judge:
            compared = {name: [RecordedAnswers.joined(own)] for name, own in recorded.items()}
        lines = {
            name: told(METHODS[name].gifts, plan.options, trials.of(name)) for name in plan.seeds
        }
        rows = tuple(
            table_row(name, own, _measured(name, compared)) for name, own in by_method.items()
        )
        write_atomic(folder / "runs.json", json.dumps(runs, indent=2) + "\n")
        write_atomic(folder / "table.csv", table_csv(rows))
        written = told_table(lines, plan.seeds)
        write_atomic(folder / "told.md", written)
        summary = {
            **summarize(rows, by_method, compared, lines), "core_hours": files.core_hours(runs)
        }  # fmt: skip
        write_atomic(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        simulated = runs[0].get("simulated", ())
        table = table_md(rows, {name: METHODS[name].adds for name in plan.seeds}, simulated)
        parts = [*summary_lines(summary), "", table, "What each row is told:", "", written]
        write_atomic(folder / "table.md", "\n".join(parts))
        draw_figures(folder, recorded, {n: _by_cloud(own) for n, own in by_method.items()})
        if plan.judge:
            seeds = max(plan.seeds.values())
            write_agreement(folder, tuple(plan.seeds), seeds, open_dataset(plan.train).classes)
        return rows


def _trials(plan: Plan) -> Trials:
    return Trials(plan.files.folder, plan.trials)


def _by_cloud(runs: list[Row]) -> npt.NDArray[np.float64]:
    """Balanced accuracy ``(seeds, cloud bins)``; NaN where no pair falls in."""
    parts = [[run["metrics"]["by_cloud"][b]["balanced_accuracy"] for b in CLOUD_BINS]
             for run in runs]  # fmt: skip
    return np.array(parts, dtype=np.float64)


def _measured(name: str, recorded: Recorded) -> Measured:
    """Return the intervals of a method, and of the reference minus it."""
    partly = {
        known: [run.partly_clouded() for run in recorded[known]]
        for known in {name, REFERENCE} & recorded.keys()
    }
    has_partly = all(len(run.places) for runs in partly.values() for run in runs)
    is_behind = name != REFERENCE and REFERENCE in recorded
    return Measured(
        own=alone(recorded[name]),
        partly=alone(partly[name]) if has_partly else None,
        behind=paired(recorded, REFERENCE, name) if is_behind else None,
        behind_partly=paired(partly, REFERENCE, name) if is_behind and has_partly else None,
    )
