"""Several methods on the same pairs, clouds, seeds and schedules; one table.

Every finished (method, seed) is kept in ``runs/``, so a comparison that was killed goes on where
it stopped and no finished row is computed again. Methods of one seed share teacher and
auxiliaries.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic

from ..datasets import open_dataset
from ..methods import METHODS
from ..options import RunOptions, TrainOptions
from ..options_file import changed_options
from ..samples.real_target import open_real_target
from ..samples.train_test_dataset import TrainTestDataset
from .figures import draw_figures
from .fold_agreement import write_agreement
from .queue import WorkItem, work_off
from .recorded_answers import RecordedAnswers
from .runs import Row, RunFiles, SeedRuns
from .significance import Verdict, difference_interval
from .summary import REFERENCE, summarize, summary_lines
from .table import Interval, table_csv, table_md, table_row


@dataclass(frozen=True)
class Comparison:
    """What a comparison leaves: one row per method, and where the files are.

    Attributes:
        folder: Holds ``table.md``, ``table.csv``, ``summary.json``, ``runs.json`` and the pictures.
        rows: See `table.table_row`.
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
        methods: Names in `methods.METHODS`; None for all.
        seeds: Runs per method, with seeds ``0..seeds-1``.
        jobs: Processes; see `queue`.
        resume: Go on in an existing folder.
        options: Networks and schedules, the same for all methods; ``data``, ``out`` and
            ``seed`` are set here.
        judge: What an independent judge says of the clear images, where ``test`` is real triplets:
            they are then the unlabeled target too, seed by seed without another fold of places,
            and ``agreement.json`` holds the answers of all folds together.

    Raises:
        InputError: An unknown method, options of another task, a folder that holds another
            comparison, or data that does not fit.
    """
    used = TrainOptions() if options is None else options
    if not isinstance(used, TrainOptions):
        raise InputError(f"task is {used.task!r}, expected {TrainOptions.task!r}: methods of it")
    chosen = _chosen(methods, has_target_labels=judge is None)
    folder = Path(out)
    plan = {"train": train, "test": test, **({} if judge is None else {"judge": str(judge)})}
    planned = used.evolve(data="", out="", seed=0)
    _check_folder(folder, plan, planned, resume)
    if judge is None:  # refuses unfit data before any work
        TrainTestDataset(open_dataset(train), open_dataset(test))
    else:
        open_real_target(train, test, str(judge), used)
    record = {**plan, "options": planned.as_dict()}
    write_atomic(folder / "plan.json", json.dumps(record, indent=2) + "\n")
    if jobs > 1 and not used.threads:
        used = used.evolve(threads=max(1, (os.cpu_count() or 1) // jobs))
    files = RunFiles(folder)
    missing = {seed: files.missing(chosen, seed) for seed in range(seeds)}
    for seed, names in missing.items():
        print(f"seed {seed}: {len(names)} of {len(chosen)} methods to run", file=sys.stderr)
    needs_auxiliaries = any(METHODS[name].auxiliaries for name in chosen)
    try:
        work_off(
            missing, _Worker(train, test, files, used, needs_auxiliaries, str(judge or "")), jobs
        )
    finally:
        _opened.cache_clear()
    found = _report(files, chosen, seeds)
    if judge is not None:
        write_agreement(folder, chosen, seeds, open_dataset(train).classes)
    return found


def _report(files: RunFiles, chosen: tuple[str, ...], seeds: int) -> Comparison:
    """Write what the finished runs amount to together."""
    folder = files.folder
    runs = [
        json.loads(files.record(name, seed).read_text(encoding="utf-8"))
        for seed in range(seeds)
        for name in chosen
    ]
    by_method = {name: [run for run in runs if run["method"] == name] for name in chosen}
    recorded = {
        name: [RecordedAnswers.read(files.answers(name, seed)) for seed in range(seeds)]
        for name in chosen
    }
    rows = tuple(table_row(name, own, _interval(name, recorded)) for name, own in by_method.items())
    write_atomic(folder / "runs.json", json.dumps(runs, indent=2) + "\n")
    write_atomic(folder / "table.csv", table_csv(rows))
    judged = [run.judged for run in recorded.get(REFERENCE, [])]
    summary = summarize(rows, by_method, judged)
    write_atomic(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    simulated = runs[0].get("simulated", ())
    table = table_md(rows, seeds, {n: METHODS[n].adds for n in chosen}, simulated)
    write_atomic(folder / "table.md", "\n".join([*summary_lines(summary), "", table]))
    draw_figures(folder, recorded, {n: _by_cloud(own) for n, own in by_method.items()})
    return Comparison(folder, rows)


@dataclass(frozen=True)
class _Worker:
    """Does work items in any process; a process keeps what its last seed shares."""

    train: str
    test: str
    files: RunFiles
    options: TrainOptions
    auxiliaries: bool
    judge: str = ""

    def __call__(self, item: WorkItem) -> None:
        runs = _opened(self, item.seed)
        if item.method is None:
            runs.share(auxiliaries=self.auxiliaries)
        else:
            runs.run(item.method)


@lru_cache(maxsize=1)
def _opened(worker: _Worker, seed: int) -> SeedRuns:
    options = worker.options.evolve(seed=seed)
    return SeedRuns(worker.train, worker.test, worker.files, options, worker.judge)


def _by_cloud(runs: list[Row]) -> npt.NDArray[np.float64]:
    """Balanced accuracy ``(seeds, cloud bins)``; NaN where no pair falls in."""
    parts = [[run["metrics"]["by_cloud"][b]["balanced_accuracy"] for b in CLOUD_BINS]
             for run in runs]  # fmt: skip
    return np.array(parts, dtype=np.float64)


def _interval(name: str, recorded: dict[str, list[RecordedAnswers]]) -> Interval | None:
    """Interval of the reference minus a method."""
    if name == REFERENCE or REFERENCE not in recorded:
        return None
    pairs = zip(recorded[REFERENCE], recorded[name], strict=True)
    verdicts = [
        Verdict(
            ours.judged.labels,
            ours.judged.probabilities.argmax(axis=1),
            other.judged.probabilities.argmax(axis=1),
            ours.places,
        )
        for ours, other in pairs
    ]
    return difference_interval(verdicts)


def _chosen(methods: Sequence[str] | None, *, has_target_labels: bool) -> tuple[str, ...]:
    possible = [n for n in METHODS if has_target_labels or not METHODS[n].target_labels]
    names = tuple(methods or possible)
    if unknown := [name for name in names if name not in METHODS]:
        raise InputError(f"method is {unknown[0]!r}, expected among {', '.join(METHODS)}")
    if lacking := sorted(set(names) - set(possible)):
        raise InputError(f"{lacking[0]} learns from labels of the target, and there are none")
    return tuple(name for name in METHODS if name in names)


def _check_folder(folder: Path, plan: dict[str, str], options: TrainOptions, resume: bool) -> None:
    record = folder / "plan.json"
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
    before = json.loads(record.read_text(encoding="utf-8"))
    changed = [name for name in plan if before.get(name) != plan[name]]
    if changed := changed + changed_options(before["options"], options):
        raise InputError(
            f"the comparison in {folder} was started with other data or options: "
            f"{', '.join(changed)}",
            hint="Resume with the same ones, or give a new folder",
        )
