"""k-fold cross-validation of scene classification: every place is judged by a model without it.

The folds are by place, of the data set and of the real pairs alike. `RUN/` gets one folder per fold
with a whole training run and its ``answers.npz``, then ``report.json``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic

from .datasets import open_dataset
from .datasets.clear_judge import with_judge
from .datasets.triplets import Chips
from .judging.fold_answers import FoldAnswers, fold_answers
from .judging.fold_report import fold_report
from .learning.tasks.scene_classification import SceneClassificationLearning
from .options import require
from .run import OPTIONS_NAME, check_folder
from .samples.samples import patch_size
from .scene_options import TrainOptions
from .stages.trainer import check_trainer

ANSWERS_NAME = "answers.npz"
REPORT_NAME = "report.json"


def cross_validate(
    options: TrainOptions,
    *,
    judge: str | Path | None = None,
    only: Sequence[int] = (),
) -> dict[str, Any] | None:
    """Train one model per fold and judge each on what it was not trained on.

    A finished fold is kept, and a stage that was stopped goes on where it stood.

    Args:
        options: The run; ``data``, ``out`` and ``folds.count`` must be given.
        judge: Probabilities of an independent judge for the chips of the real pairs; None leaves
            them unjudged. Nothing learns from it.
        only: Folds to train now; none: all. The report waits for the last.

    Returns:
        What `fold_report` gives, or None while folds are missing.

    Raises:
        InputError: An option is missing, the folder holds a cross-validation with other options, or
            the data cannot be trained on.
    """
    count = options.folds.count
    if not options.data or not options.out or count < 2:
        raise InputError(
            "data, out and folds.count are not all given, expected two folds or more",
            hint="Pass --data SOURCE, --out DIR and --folds 4",
        )
    require(not options.init, "init", options.init, "none: it may have learned what a fold judges")
    check_trainer(options)
    folder, judged = Path(options.out), _judged(options, judge)
    check_folder(folder, options, resume=True)
    write_atomic(folder / OPTIONS_NAME, json.dumps(options.as_dict(), indent=2) + "\n")
    for fold in only or range(count):
        _run_fold(options, fold, folder / f"fold-{fold}")
    paths = [folder / f"fold-{fold}" / ANSWERS_NAME for fold in range(count)]
    if not all(path.is_file() for path in paths):
        return None
    report = fold_report([FoldAnswers.load(path) for path in paths], judged)
    write_atomic(folder / REPORT_NAME, json.dumps(report, indent=2) + "\n")
    return report


def _judged(options: TrainOptions, judge: str | Path | None) -> Chips | None:
    """Return the real pairs side by side, with the judge's labels."""
    if judge is None or not options.real_pairs.data:
        return None
    size = patch_size(open_dataset(options.data))[0]
    chips = open_dataset(options.real_pairs.data)
    if not isinstance(chips, Chips):
        raise InputError("a judge needs real triplets, expected real_pairs.data=sen12ms-cr:PATH")
    return with_judge(chips.of_size(size), judge)


def _run_fold(options: TrainOptions, fold: int, folder: Path) -> None:
    if (folder / ANSWERS_NAME).is_file():
        return
    folds = replace(options.folds, held_out=fold)
    held = options.evolve(folds=folds, out=str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    task = SceneClassificationLearning()
    run = task.open(held, task.open_data(held), folder)
    networks = task.train(run)
    fold_answers(run, networks).save(folder / ANSWERS_NAME)
    shutil.rmtree(folder / "logs" / "tensorboard", ignore_errors=True)
