"""Several methods on the same pairs, clouds, seeds and schedules; one table.

Every finished (method, seed) is kept in ``runs/``, so a comparison that was killed goes on where
it stopped and no finished row is computed again. Methods of one seed share teacher and
auxiliaries.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic
from esccs_edge.system.working_folder import remove_ownerless

from ..kept_files import kept_json
from ..options import RunOptions, require
from ..options_file import changed_options
from ..scene_options import TrainOptions
from ..stages.trainer import check_trainer
from .kind import HEADLINE_GROUP, Kind, Plan, SeedWork
from .kinds import kind_of
from .queue import WorkItem, work_off
from .run_files import Row, RunFiles


@dataclass(frozen=True)
class Comparison:
    """What a comparison leaves: one row per method, and where the files are.

    Attributes:
        folder: Holds ``table.md``, ``table.csv``, ``told.md``, ``summary.json``, ``runs.json`` and
            the pictures of the task.
        rows: See `table.table_row` and `map_table.map_row`.
    """

    folder: Path
    rows: tuple[Row, ...]


def compare(
    train: str,
    test: str,
    out: str | Path,
    *,
    methods: Sequence[str] | None = None,
    seeds: int = 1,
    other_seeds: int | None = None,
    trials: int = 0,
    jobs: int = 1,
    resume: bool = False,
    options: RunOptions | None = None,
    judge: str | Path | None = None,
) -> Comparison:
    """Train and judge methods; write tables, summary, ``runs.json`` and pictures.

    Args:
        train: Data set to learn on: its splits ``train`` and ``val``.
        test: Data set to judge on: its split ``test``, or all of it where it has none.
        out: Folder for tables and checkpoints.
        methods: Names of rows or of groups of rows of the task; None for all.
        seeds: Runs per method, with seeds ``0..seeds-1``.
        other_seeds: Runs of the methods that are not in the group ``headline``; None: as many.
        trials: Settings that are tried for every method on a seed of its own, where the task has
            trials; see `trials`.
        jobs: Processes; see `queue`.
        resume: Go on in an existing folder.
        options: Networks and schedules, the same for all methods; ``data``, ``out`` and
            ``seed`` are set here.
        judge: What an independent judge says of the clear images, where ``test`` is real triplets:
            they are then the unlabeled target too, seed by seed without another fold of places,
            and ``agreement.json`` holds the answers of all folds together.

    Raises:
        InputError: An unknown method, what the task does not have, a folder that holds another
            comparison, or data that does not fit.
    """
    used = TrainOptions() if options is None else options
    require(not used.init, "init", used.init, "none: all methods start alike")
    kind, folder = kind_of(used), Path(out)
    chosen = _chosen(kind, methods, has_judge=judge is not None)
    if judge is not None and other_seeds not in (None, seeds):
        raise InputError(
            f"{other_seeds} seeds for other methods, expected {seeds} as for all: with a judge "
            "each seed holds out other places"
        )
    fewer = seeds if other_seeds is None else min(seeds, other_seeds)
    headline = kind.groups()[HEADLINE_GROUP]
    seeds_of = {name: seeds if name in headline else fewer for name in chosen}
    plan = Plan(train, test, RunFiles(folder), used, seeds_of, trials, str(judge or ""))
    kind.check_asked(plan)
    check_trainer(used)
    asked = {"train": train, "test": test}
    asked |= {"trials": str(trials)} if trials else {}
    asked |= {"judge": plan.judge} if plan.judge else {}
    planned = used.evolve(data="", out="", seed=0)
    _check_folder(folder, asked, planned, resume)
    kind.check_data(plan)
    record = {**asked, "options": planned.as_dict()}
    write_atomic(folder / "plan.json", json.dumps(record, indent=2) + "\n")
    if jobs > 1 and not used.threads:
        used = used.evolve(threads=max(1, (os.cpu_count() or 1) // jobs))
        plan = replace(plan, options=used)
    missing = {
        seed: plan.files.missing(tuple(name for name in chosen if seed < seeds_of[name]), seed)
        for seed in range(seeds)
    }
    for seed, names in missing.items():
        print(f"seed {seed}: {len(names)} methods to run", file=sys.stderr)
    try:
        for left in (kind.before(plan), missing):
            work_off(left, _Worker(plan, left), jobs)
    finally:
        _opened.cache_clear()
    return Comparison(folder, kind.report(plan))


@dataclass(frozen=True)
class _Worker:
    """Does work items in any process; a process keeps what its last seed shares."""

    plan: Plan
    missing: Mapping[int, Sequence[str]]

    def __call__(self, item: WorkItem) -> None:
        runs = _opened(self.plan, item.seed)
        if item.method is None:
            runs.share_for(self.missing[item.seed])
        else:
            runs.run(item.method)


@lru_cache(maxsize=1)
def _opened(plan: Plan, seed: int) -> SeedWork:
    options = plan.options.evolve(seed=seed)
    return kind_of(options).open_seed(replace(plan, options=options), seed)


def _chosen(kind: Kind, methods: Sequence[str] | None, *, has_judge: bool) -> tuple[str, ...]:
    """Return the rows in their order; of a group those that can run."""
    known, groups = kind.methods(), kind.groups()
    refused = kind.refused(has_judge=has_judge)
    wanted = list(known if methods is None else methods)
    if unknown := [name for name in wanted if name not in known and name not in groups]:
        every = ", ".join((*groups, *known))
        raise InputError(f"method is {unknown[0]!r}, expected among {every}")
    if methods and (asked := sorted(refused.keys() & set(wanted))):
        raise InputError(f"{asked[0]} {refused[asked[0]]}")
    names = {member for name in wanted for member in groups.get(name, (name,))} - refused.keys()
    return tuple(name for name in known if name in names)


def _check_folder(folder: Path, plan: dict[str, str], options: RunOptions, resume: bool) -> None:
    record = folder / "plan.json"
    remove_ownerless(folder)  # what a process left that was killed before its first file stood
    if not record.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(
                f"{folder} is not empty and holds no comparison", hint="Give a new folder"
            )
        return
    if not resume:
        raise InputError(
            f"{folder} already holds a comparison", hint="Add --resume or give a new folder"
        )
    before = kept_json(record, "Give a new folder")
    planned = before.pop("options")
    changed = sorted(name for name in before | plan if before.get(name) != plan.get(name))
    if changed := changed + changed_options(planned, options):
        raise InputError(
            f"the comparison in {folder} was started with other data or options: "
            f"{', '.join(changed)}",
            hint="Resume with the same ones, or give a new folder",
        )
