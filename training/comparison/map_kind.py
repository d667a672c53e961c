"""Comparison of methods of semantic segmentation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic

from ..methods.maps import GROUPS, METHODS
from ..methods.maps.told import map_told
from ..methods.told import told_table
from .kind import Plan
from .map_ranking import RecordedCounts
from .map_runs import MapSeedRuns, open_both
from .map_summary import summarize, summary_lines
from .map_table import map_row, map_table
from .run_files import Row
from .table import table_csv


class MapComparison:
    """A `Kind`."""

    def methods(self) -> Sequence[str]:
        """Names of all rows."""
        return tuple(METHODS)

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Groups of rows."""
        return GROUPS

    def refused(self, *, has_judge: bool) -> Mapping[str, str]:
        """None: a judge is refused as a whole."""
        return {}

    def check_asked(self, plan: Plan) -> None:
        """Refuse a judge and trials, which scenes have."""
        if plan.judge:
            raise InputError(
                "a judge was given, and segmentation is judged by label maps",
                hint="Leave out --judge",
            )
        if plan.trials:
            raise InputError(
                f"{plan.trials} trials, expected 0: nothing is tried for methods of segmentation",
                hint="Leave out --trials: every method then runs as its options stand",
            )

    def check_data(self, plan: Plan) -> None:
        """Refuse unfit data."""
        open_both(plan.train, plan.test, plan.options)

    def before(self, plan: Plan) -> Mapping[int, Sequence[str]]:
        """Nothing."""
        return {}

    def open_seed(self, plan: Plan, seed: int) -> MapSeedRuns:
        """Open the images of one seed."""
        return MapSeedRuns(plan.train, plan.test, plan.files, plan.options)

    def report(self, plan: Plan) -> tuple[Row, ...]:
        """Write ``table.md``, ``table.csv``, ``told.md``, ``runs.json`` and ``summary.json``."""
        files, folder = plan.files, plan.files.folder
        by_method = files.records(plan.seeds)
        runs = [run for own in by_method.values() for run in own]
        counted = {
            name: [RecordedCounts.read(files, name, seed) for seed in range(count)]
            for name, count in plan.seeds.items()
        }
        told = {name: map_told(METHODS[name].gifts, plan.options) for name in plan.seeds}
        rows = tuple(map_row(name, own, counted) for name, own in by_method.items())
        summary = {
            **summarize(counted, told, tuple(plan.seeds)), "core_hours": files.core_hours(runs)
        }  # fmt: skip
        written = told_table(told, plan.seeds)
        table = map_table(rows, runs[0])
        parts = [*summary_lines(summary), "", table, "What each row is told:", "", written]
        write_atomic(folder / "runs.json", json.dumps(runs, indent=2) + "\n")
        write_atomic(folder / "table.csv", table_csv(rows))
        write_atomic(folder / "told.md", written)
        write_atomic(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        write_atomic(folder / "table.md", "\n".join(parts))
        return rows
