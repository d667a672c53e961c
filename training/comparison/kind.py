"""What differs between comparisons of different tasks; `run` knows no more than this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .run_files import Row, RunFiles

#: The group whose rows run with all seeds.
HEADLINE_GROUP = "headline"


@dataclass(frozen=True)
class Plan:
    """What a comparison was asked for.

    Attributes:
        train: Data set to learn on.
        test: Data set to judge on.
        files: Where results go.
        options: Networks and schedules of the task.
        seeds: Row -> with how many seeds it runs, from 0 on; in the order of the table.
        trials: Settings to try for every row before.
        judge: File of a judge that stands in for labels, or empty.
    """

    train: str
    test: str
    files: RunFiles
    options: Any
    seeds: Mapping[str, int]
    trials: int = 0
    judge: str = ""

    def __hash__(self) -> int:
        return hash((self.train, self.test, self.files, self.options, self.trials, self.judge))


class SeedWork(Protocol):
    """The runs of one seed."""

    def share_for(self, names: Sequence[str]) -> None:
        """Train or load what these rows share."""

    def run(self, name: str) -> None:
        """Do the work of one row on this seed; its file is written last."""


class Kind(Protocol):
    """How one task is compared."""

    def methods(self) -> Sequence[str]:
        """Names of all rows in the order of the table."""

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Name of a group -> its rows; `HEADLINE_GROUP` is one."""

    def refused(self, *, has_judge: bool) -> Mapping[str, str]:
        """Names of the rows that cannot run on such data, and why."""

    def check_asked(self, plan: Plan) -> None:
        """Refuse what this task cannot do.

        Raises:
            InputError: It cannot.
        """

    def check_data(self, plan: Plan) -> None:
        """Refuse unfit data before any work.

        Raises:
            InputError: The data do not fit.
        """

    def before(self, plan: Plan) -> Mapping[int, Sequence[str]]:
        """Seed -> rows that have work to do before any run that is judged."""

    def open_seed(self, plan: Plan, seed: int) -> SeedWork:
        """Open the data of one seed."""

    def report(self, plan: Plan) -> tuple[Row, ...]:
        """Write what the finished runs amount to; return one line per row of the table."""
