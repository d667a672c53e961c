"""Several methods on the same pairs, clouds, seeds and schedules; one table.

Every finished (method, seed) is kept in ``runs/``, so a comparison that was killed goes on where
it stopped and no finished row is computed again. Methods of one seed share teacher and
auxiliaries.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from esccs_edge.atomic import write_atomic
from esccs_edge.errors import InputError

from .chain import Chain
from .comparison_figures import draw_figures
from .comparison_table import Interval, Row, table_csv, table_md, table_row
from .datasets import open_source
from .judge import held_out, judge
from .methods import METHODS
from .metrics import CLOUD_BINS
from .options import TrainOptions
from .recorded_answers import RecordedAnswers
from .samples import CloudySamples
from .significance import Verdict, difference_interval
from .train_test_source import TrainTestSource

#: The method that the others are compared to.
REFERENCE = "esccs"
#: Seed, data to learn on, data to judge on, folder, methods, options.
Work = tuple[int, str, str, Path, tuple[str, ...], TrainOptions]


@dataclass(frozen=True)
class Comparison:
    """What a comparison leaves: one row per method, and where the files are.

    Attributes:
        folder: Holds ``table.md``, ``table.csv``, ``runs.json`` and the pictures.
        rows: See `comparison_table.table_row`.
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
    options: TrainOptions | None = None,
) -> Comparison:
    """Train and judge methods; write tables, ``runs.json`` and pictures.

    Args:
        train: Data set to learn on: its splits ``train`` and ``val``.
        test: Data set to judge on: its split ``test``, or all of it where it has none.
        out: Folder for tables and checkpoints.
        methods: Names in `methods.METHODS`; None for all.
        seeds: Runs per method, with seeds ``0..seeds-1``.
        jobs: Seeds that run at the same time, each in its own process.
        resume: Go on in an existing folder.
        options: Networks and schedules, the same for all methods; ``data``, ``out`` and
            ``seed`` are set here.

    Raises:
        InputError: An unknown method, a folder that holds another comparison, or data that does
            not fit.
    """
    chosen = _chosen(methods)
    folder = Path(out)
    plan = {
        "train": train,
        "test": test,
        "options": (options or TrainOptions()).evolve(data="", out="", seed=0).as_dict(),
    }
    _check_folder(folder, plan, resume)
    TrainTestSource(open_source(train), open_source(test))  # refuses unfit data before any work
    write_atomic(folder / "plan.json", json.dumps(plan, indent=2) + "\n")
    used = options or TrainOptions()
    if jobs > 1 and not used.threads:
        used = used.evolve(threads=max(1, (os.cpu_count() or 1) // jobs))
    runs = _run_all(
        [(seed, train, test, folder, chosen, used) for seed in range(seeds)], min(jobs, seeds)
    )
    by_method = {name: [run for run in runs if run["method"] == name] for name in chosen}
    recorded = {
        name: [RecordedAnswers.read(_answers_path(folder, name, seed)) for seed in range(seeds)]
        for name in chosen
    }
    rows = tuple(table_row(name, own, _interval(name, recorded)) for name, own in by_method.items())
    write_atomic(folder / "runs.json", json.dumps(runs, indent=2) + "\n")
    write_atomic(folder / "table.csv", table_csv(rows))
    write_atomic(folder / "table.md", table_md(rows, seeds, {n: METHODS[n].adds for n in chosen}))
    draw_figures(folder, recorded, {n: _by_cloud(own) for n, own in by_method.items()})
    return Comparison(folder, rows)


def _run_all(work: list[Work], jobs: int) -> list[Row]:
    if jobs == 1:
        return [run for item in work for run in _run_seed(item)]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        return [run for part in pool.map(_run_seed, work) for run in part]


def _run_seed(work: Work) -> list[Row]:
    """All methods of one seed, finished ones from their files."""
    seed, train, test, folder, methods, options = work
    paths = {name: folder / "runs" / f"{name}-{seed}.json" for name in methods}
    missing = [name for name in methods if not paths[name].is_file()]
    if missing:
        print(f"seed {seed}: {len(missing)} of {len(methods)} methods to run", file=sys.stderr)
        if options.threads:
            torch.set_num_threads(options.threads)
        source = TrainTestSource(open_source(train, seed), open_source(test, seed))
        chain = Chain(options.evolve(seed=seed), source, folder / f"seed-{seed}")
        parts = held_out(chain, "test")
        for name in missing:
            run = _run(name, chain, parts, _answers_path(folder, name, seed))
            write_atomic(paths[name], json.dumps(run, indent=2) + "\n")
    return [json.loads(paths[name].read_text(encoding="utf-8")) for name in methods]


def _share_parts(chain: Chain, name: str) -> float:
    """Train or load what several methods share, and return the seconds it took.

    Before the method's own time is taken, so that this does not depend on the order of methods.
    """
    started = time.monotonic()
    _ = chain.teacher, chain.source_answers
    if METHODS[name].gate is not None or name in ("g2d", "optical-auxiliary", "sar-auxiliary"):
        _ = chain.optical_auxiliary
    return round(time.monotonic() - started, 3)


def _run(name: str, chain: Chain, parts: list[CloudySamples], answers_path: Path) -> Row:
    """Train and judge one method; its answers are on disk before the run counts as finished."""
    method = METHODS[name]
    shared_s = _share_parts(chain, name)
    started = time.monotonic()
    answers = judge(method.predictor(chain), parts)
    wall_s = round(time.monotonic() - started, 3)
    share = judge(method.gate(chain), parts).probabilities[:, 0] if method.gate else None
    RecordedAnswers(answers, _places(chain, parts), share).write(answers_path)
    return {
        "method": name,
        "seed": chain.options.seed,
        "adds": method.adds,
        "deployable": method.deployable,
        "shared_s": shared_s,
        "wall_s": wall_s,
        "config": chain.options.as_dict(),
        "metrics": answers.report(),
    }


def _places(chain: Chain, parts: list[CloudySamples]) -> npt.NDArray[np.int64]:
    """Number of the group of each judged pair, in the order of `judge`."""
    number = {name: i for i, name in enumerate(sorted(set(chain.source.groups)))}
    groups, labels = chain.source.groups, np.asarray(chain.source.labels)
    judged = np.concatenate([part.pairs.indices for part in parts])
    return np.array([number[groups[i]] for i in judged if labels[i] >= 0], np.int64)


def _answers_path(folder: Path, name: str, seed: int) -> Path:
    return folder / "runs" / f"{name}-{seed}.npz"


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
            ours.answers.labels,
            ours.answers.probabilities.argmax(axis=1),
            other.answers.probabilities.argmax(axis=1),
            ours.places,
        )
        for ours, other in pairs
    ]
    return difference_interval(verdicts)


def _chosen(methods: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(methods or METHODS)
    if unknown := [name for name in names if name not in METHODS]:
        raise InputError(f"method is {unknown[0]!r}, expected among {', '.join(METHODS)}")
    return tuple(dict.fromkeys(names))


def _check_folder(folder: Path, plan: dict[str, Any], resume: bool) -> None:
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
    if json.loads(record.read_text(encoding="utf-8")) != json.loads(json.dumps(plan)):
        raise InputError(
            f"the comparison in {folder} was started with other data or options",
            hint="Resume with the same ones, or give a new folder",
        )
