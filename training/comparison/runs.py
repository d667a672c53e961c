"""One method of scene classification on one seed: train it, judge it, keep its answers.

A run is finished when its file is there; that file is written last and never again.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic

from ..datasets import PairDataset, open_dataset
from ..judging.judge import has_labels, held_out, judge, simulated_parts
from ..judging.metrics import rank_correlation as correlation_over_pairs
from ..judging.predictors import bimodal, gates
from ..methods import METHODS
from ..methods.prepared import PREPARED
from ..methods.shared import Shared
from ..methods.told import told
from ..samples.real_target import open_real_target
from ..samples.samples import CloudySamples
from ..samples.train_test_dataset import TrainTestDataset
from ..scene_options import FoldOptions, TrainOptions
from ..stages.scene_classification.run import SceneRun
from .recorded_answers import RecordedAnswers, by_bin, rank_correlation
from .run_files import Row, RunFiles
from .trials import RATES, TRIAL_SEED, Trials, at_rate


class SeedRuns:
    """All that the methods of one seed share, held in memory: networks, training and judged pairs.

    Args:
        train: Data set to learn on.
        test: Data set to judge on.
        files: Where results go.
        options: Networks and schedules, with the seed.
        trials: What was tried before.
        judge: File of a judge of the clear images, for real target chips; see `real_target`.
    """

    def __init__(
        self, train: str, test: str, files: RunFiles, options: TrainOptions, trials: Trials,
        judge: str = "",
    ) -> None:  # fmt: skip
        if options.threads:
            torch.set_num_threads(options.threads)
        self.seed, self.files, self.trials = options.seed, files, trials
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
        self.validation: list[CloudySamples] = []
        self.tuning: list[CloudySamples] = []
        if has_labels(self._run, "val"):
            clear = held_out(self._run, "val", clear=True) if simulated else []
            self.validation = _drawn(held_out(self._run, "val"))
            self.tuning = [*_drawn(clear), *self.validation]
        self._shared: Shared | None = None
        self._prepared: set[str] = set()

    def share_for(self, names: Sequence[str]) -> None:
        """Train or load what these methods share."""
        self.share({need for name in names for need in METHODS[name].needs})

    def share(self, needs: Iterable[str] = ()) -> tuple[Shared, dict[str, float]]:
        """Train or load what methods share; also return the core-seconds that this took.

        Args:
            needs: What of `prepared.PREPARED` is asked for beside the teacher.
        """
        known = self.files.shared_times(self.seed)
        shared = self._shared
        started = time.process_time()
        if shared is None:
            shared = Shared.train(self._run)
        known.setdefault("teacher", round(time.process_time() - started, 3))
        for need in PREPARED:
            if need in needs and need not in self._prepared:
                started = time.process_time()
                shared = PREPARED[need](shared)
                known.setdefault(need, round(time.process_time() - started, 3))
                self._prepared.add(need)
        self._shared = shared
        self.files.write_shared_times(self.seed, known)
        return shared, known

    def run(self, name: str) -> None:
        """Try the settings of a method on the seed of the trials; run it on any other."""
        if self.seed == TRIAL_SEED:
            self.tune(name)
        else:
            self.train_and_judge(name)

    def tune(self, name: str) -> None:
        """Try the learning rates of one method and keep the scores of their validation pairs."""
        if not self.validation:
            raise InputError(
                f"{self.trials.count} trials, but {self._run.dataset.name} has no labeled "
                "validation pair to score them on",
                hint="Leave out --trials, or give some pairs the split 'val'",
            )
        method = METHODS[name]
        shared, _ = self.share(method.needs)
        scores = {}
        for rate in RATES[: self.trials.count]:
            predict = method.predictor(at_rate(shared, name, rate))
            found = judge(predict, self.validation).report()["overall"]
            scores[rate] = float(found["balanced_accuracy"])
        self.trials.write(name, scores)

    def train_and_judge(self, name: str) -> None:
        """Train and judge one method; its answers are on disk before the run counts as finished."""
        method = METHODS[name]
        shared, shared_s = self.share(method.needs)
        started, cpu_started = time.monotonic(), time.process_time()
        rate = self.trials.rate(name)
        shared = at_rate(shared, name, rate)
        student = method.student(shared) if method.student else None
        predict = bimodal(student) if student is not None else method.predictor(shared)
        judged = judge(predict, self.cloudy)
        wall_s = round(time.monotonic() - started, 3)
        cpu_s = round(time.process_time() - cpu_started, 3)
        temperature = judge(predict, self.tuning).temperature() if self.tuning else 1.0
        judged = judged.tempered(temperature)
        metrics = judged.report()
        share = None
        if student is not None:
            share = judge(gates(student), self.cloudy).probabilities[:, 0]
            weights = by_bin(share, judged.cover)
            metrics["optical_gate"] = dict(zip(CLOUD_BINS, weights, strict=True))
            metrics["gate_rank_correlation"] = rank_correlation(weights)
            metrics["gate_rank_correlation_over_pairs"] = correlation_over_pairs(
                share, judged.cover
            )
            metrics.update(self._with_one_modality(student, temperature))
        RecordedAnswers(judged, self._places(), share).write(self.files, name, self.seed)
        clear = judge(predict, self.clear).tempered(temperature).report() if self.clear else None
        run = {
            "method": name,
            "seed": self.seed,
            "adds": method.adds,
            "deployable": method.deployable,
            "reproduced": method.reproduced,
            "shared_cpu_s": sum(shared_s[part] for part in ("teacher", *method.needs)),
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "told": dataclasses.asdict(told(method.gifts, self._run.options, self.trials.of(name))),
            "rate": rate,
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
