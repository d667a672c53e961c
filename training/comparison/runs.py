"""One method on one seed: train it, judge it, keep its answers.

A run is finished when its file is there; that file is written last and never again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.system.atomic import write_atomic

from ..datasets import PairDataset, open_dataset
from ..judging.judge import has_labels, held_out, judge, simulated_parts
from ..judging.predictors import bimodal, gates
from ..methods import METHODS
from ..methods.shared import Shared
from ..options import FoldOptions, TrainOptions
from ..samples.real_target import open_real_target
from ..samples.samples import CloudySamples
from ..samples.train_test_dataset import TrainTestDataset
from ..stages.scene_classification.run import SceneRun
from .recorded_answers import RecordedAnswers, by_bin, rank_correlation

Row = dict[str, Any]


@dataclass(frozen=True)
class RunFiles:
    """Where the runs of a comparison are.

    Attributes:
        folder: Of the comparison.
    """

    folder: Path

    def record(self, name: str, seed: int) -> Path:
        """Return the file of a finished run."""
        return self.folder / "runs" / f"{name}-{seed}.json"

    def answers(self, name: str, seed: int) -> Path:
        """Return the file of a run's answers; see `RecordedAnswers`."""
        return self.folder / "runs" / f"{name}-{seed}.npz"

    def networks(self, seed: int) -> Path:
        """Return the folder of a seed's checkpoints."""
        return self.folder / f"seed-{seed}"

    def missing(self, names: tuple[str, ...], seed: int) -> list[str]:
        """Return the methods that a seed still lacks."""
        return [name for name in names if not self.record(name, seed).is_file()]


class SeedRuns:
    """All that the methods of one seed share, held in memory: networks, training and judged pairs.

    Args:
        train: Data set to learn on.
        test: Data set to judge on.
        files: Where results go.
        options: Networks and schedules, with the seed.
        judge: File of a judge of the clear images, for real target chips; see `real_target`.
    """

    def __init__(
        self, train: str, test: str, files: RunFiles, options: TrainOptions, judge: str = ""
    ) -> None:
        if options.threads:
            torch.set_num_threads(options.threads)
        self.seed, self.files = options.seed, files
        dataset: PairDataset
        if judge:
            dataset = open_real_target(train, test, judge, options)
            options = options.evolve(folds=FoldOptions())  # held out already
        else:
            dataset = TrainTestDataset(
                open_dataset(train, self.seed), open_dataset(test, self.seed)
            )
        self._run = SceneRun.open(options, dataset, files.networks(self.seed))
        self.cloudy = _drawn(held_out(self._run, "test"))
        simulated = options.clouds.simulate
        self.clear = _drawn(held_out(self._run, "test", clear=True)) if simulated else []
        self.tuning: list[CloudySamples] = []
        if has_labels(self._run, "val"):
            clear = held_out(self._run, "val", clear=True) if simulated else []
            self.tuning = _drawn([*clear, *held_out(self._run, "val")])
        self._shared: Shared | None = None

    def share(self, *, auxiliaries: bool) -> tuple[Shared, dict[str, float]]:
        """Train or load what methods share; also return the seconds that its training took."""
        file = self.files.networks(self.seed) / "shared.json"
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        shared = self._shared
        started = time.monotonic()
        if shared is None:
            shared = Shared.train(self._run)
        known.setdefault("teacher", round(time.monotonic() - started, 3))
        if auxiliaries:
            started = time.monotonic()
            if shared.auxiliaries is None:
                shared = shared.with_auxiliaries()
            known.setdefault("auxiliaries", round(time.monotonic() - started, 3))
        self._shared = shared
        write_atomic(file, json.dumps(known) + "\n")
        return shared, known

    def run(self, name: str) -> None:
        """Train and judge one method; its answers are on disk before the run counts as finished."""
        method = METHODS[name]
        shared, shared_s = self.share(auxiliaries=method.auxiliaries)
        started = time.monotonic()
        student = method.student(shared) if method.student else None
        predict = bimodal(student) if student is not None else method.predictor(shared)
        judged = judge(predict, self.cloudy)
        wall_s = round(time.monotonic() - started, 3)
        temperature = judge(predict, self.tuning).temperature() if self.tuning else 1.0
        judged = judged.tempered(temperature)
        metrics = judged.report()
        share = None
        if student is not None:
            share = judge(gates(student), self.cloudy).probabilities[:, 0]
            weights = by_bin(share, judged.cover)
            metrics["optical_gate"] = dict(zip(CLOUD_BINS, weights, strict=True))
            metrics["gate_rank_correlation"] = rank_correlation(weights)
            metrics.update(self._with_one_modality(student, temperature))
        RecordedAnswers(judged, self._places(), share).write(self.files.answers(name, self.seed))
        clear = judge(predict, self.clear).tempered(temperature).report() if self.clear else None
        run = {
            "method": name,
            "seed": self.seed,
            "adds": method.adds,
            "deployable": method.deployable,
            "shared_s": shared_s["teacher"]
            + (shared_s["auxiliaries"] if method.auxiliaries else 0.0),
            "wall_s": wall_s,
            "config": self._run.options.as_dict(),
            "temperature": temperature,
            "simulated": simulated_parts(self._run),
            "places": self._place_names(),
            "metrics": metrics,
            "metrics_clear": clear,
        }
        write_atomic(self.files.record(name, self.seed), json.dumps(run, indent=2) + "\n")

    def _with_one_modality(self, student: nn.Module, temperature: float) -> Row:
        """Judge a network with a gate where one modality is not there."""
        asked = {
            "sar_absent": bimodal(student, use_sar=False),
            "optical_absent": bimodal(student, use_optical=False),
        }
        return {
            name: judge(predict, self.cloudy).tempered(temperature).report()
            for name, predict in asked.items()
        }

    def _place_names(self) -> dict[str, str]:
        """Number of each judged place, as text, and its name."""
        names = sorted(set(self._run.dataset.groups))
        return {str(number): names[number] for number in np.unique(self._places()).tolist()}

    def _places(self) -> npt.NDArray[np.int64]:
        """Number of the group of each judged pair, in the order of `judge`."""
        dataset = self._run.dataset
        groups, labels = dataset.groups, np.asarray(dataset.labels)
        number = {name: i for i, name in enumerate(sorted(set(groups)))}
        judged = np.concatenate([part.pairs.indices for part in self.cloudy])
        return np.array([number[groups[i]] for i in judged if labels[i] >= 0], np.int64)


def _drawn(parts: list[CloudySamples]) -> list[CloudySamples]:
    """Draw held-out pairs once, for all methods."""
    for part in parts:
        part.draws = 1
        for position in range(len(part)):
            _ = part[position]
    return parts
