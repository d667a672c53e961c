"""Several methods on the same pairs, clouds, seeds and schedules; one table.

Every finished (method, seed) is kept in ``runs/``, so a comparison that was killed goes on where
it stopped and no finished row is computed again. Methods of one seed share teacher and
auxiliaries.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esccs_edge.atomic import write_atomic
from esccs_edge.errors import InputError

from .chain import Chain
from .datasets import open_source
from .judge import held_out, judge
from .methods import METHODS
from .metrics import CLOUD_BINS
from .options import TrainOptions
from .train_test_source import TrainTestSource

Row = dict[str, Any]
#: Seed, data to learn on, data to judge on, folder, methods, options.
Work = tuple[int, str, str, Path, tuple[str, ...], TrainOptions]


@dataclass(frozen=True)
class Comparison:
    """What a comparison leaves: one row per method, and where the files are.

    Attributes:
        folder: Holds ``table.md``, ``table.csv`` and ``runs.json``.
        rows: ``method``, ``balanced_accuracy_mean``, ``balanced_accuracy_sd``, ``oa_mean`` and
            one mean balanced accuracy per cloud bin (None where no pair falls in).
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
    """Train and judge methods; write ``table.md``, ``table.csv`` and ``runs.json``.

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
    rows = tuple(_row(name, [run for run in runs if run["method"] == name]) for name in chosen)
    write_atomic(folder / "runs.json", json.dumps(runs, indent=2) + "\n")
    write_atomic(folder / "table.csv", _table_csv(rows))
    write_atomic(folder / "table.md", _table_md(rows, seeds))
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
        if options.threads:
            torch.set_num_threads(options.threads)
        source = TrainTestSource(open_source(train, seed), open_source(test, seed))
        chain = Chain(options.evolve(seed=seed), source, folder / f"seed-{seed}")
        parts = held_out(chain, "test")
        for name in missing:
            started = time.monotonic()
            report = judge(METHODS[name](chain), parts).report()
            run = {
                "method": name,
                "seed": seed,
                "wall_s": round(time.monotonic() - started, 3),
                "metrics": report,
            }
            write_atomic(paths[name], json.dumps(run, indent=2) + "\n")
    return [json.loads(paths[name].read_text(encoding="utf-8")) for name in methods]


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


def _row(name: str, runs: Sequence[Row]) -> Row:
    overall = [run["metrics"]["overall"] for run in runs]
    balanced = [part["balanced_accuracy"] for part in overall]
    row: Row = {
        "method": name,
        "balanced_accuracy_mean": float(np.mean(balanced)),
        "balanced_accuracy_sd": float(np.std(balanced, ddof=1)) if len(balanced) > 1 else None,
        "oa_mean": float(np.mean([part["oa"] for part in overall])),
    }
    for cloud_bin in CLOUD_BINS:
        parts = [run["metrics"]["by_cloud"][cloud_bin]["balanced_accuracy"] for run in runs]
        known = [value for value in parts if value is not None]
        row[cloud_bin] = float(np.mean(known)) if known else None
    return row


def _table_csv(rows: Sequence[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def _table_md(rows: Sequence[Row], seeds: int) -> str:
    names = ["method", "balanced accuracy", "sd", "OA", *(f"{name} %" for name in CLOUD_BINS)]
    lines = [
        f"Balanced accuracy, overall and by cloud cover; mean of {seeds} seed(s).",
        "",
        "| " + " | ".join(names) + " |",
        "|" + " --- |" * len(names),
    ]
    lines += ["| " + " | ".join(map(_cell, row.values())) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
