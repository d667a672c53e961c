"""One method of semantic segmentation on one seed: train it, judge it, keep what it counted.

Kept are confusion matrices by place, cloud cover and sky: all measures come from them.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence

import numpy as np
import torch

from esccs_edge.system.atomic import write_atomic

from ..datasets.maps import open_map_dataset
from ..judging.map_judge import answered_maps, held_out_maps, judge_maps
from ..judging.map_metrics import PixelCounts
from ..methods.maps import METHODS
from ..methods.maps.method import MapPredictor, MapShared
from ..methods.maps.told import map_told
from ..samples.train_test_maps import TrainTestMaps
from ..segmentation_options import SegmentationOptions
from ..stages.semantic_segmentation.run import MapRun
from .map_ranking import RecordedCounts
from .run_files import RunFiles


class MapSeedRuns:
    """What the methods of one seed share: data and teacher.

    Args:
        train: Data set to learn on.
        test: Data set to judge on.
        files: Where results go.
        options: Networks and schedules, with the seed.
    """

    def __init__(
        self, train: str, test: str, files: RunFiles, options: SegmentationOptions
    ) -> None:
        if options.threads:
            torch.set_num_threads(options.threads)
        self.seed, self.files = options.seed, files
        dataset = open_both(train, test, options)
        self._run = MapRun.open(options, dataset, files.networks(self.seed))
        self._shared: MapShared | None = None

    def share_for(self, names: Sequence[str]) -> None:
        """Train or load the teacher, which all rows are measured beside."""
        self.share()

    def share(self) -> MapShared:
        """Train or load the teacher."""
        if self._shared is None:
            started = time.process_time()
            self._shared = MapShared(self._run, self._run.train_teacher())
            times = {"teacher": round(time.process_time() - started, 3)}
            self.files.write_shared_times(self.seed, times | self.files.shared_times(self.seed))
        return self._shared

    def run(self, name: str) -> None:
        """Train and judge one method; its counts are on disk before the run counts as finished."""
        shared = self.share()
        started, cpu_started = time.monotonic(), time.process_time()
        predict = METHODS[name].predictor(shared)
        cpu_s = round(time.process_time() - cpu_started, 3)
        wall_s = round(time.monotonic() - started, 3)
        places = sorted({g for g, s in zip(self._run.dataset.groups, self._run.dataset.splits,
                                           strict=True) if s == "test"})  # fmt: skip
        counts = self._by_place(predict, places)
        classes = self._run.dataset.classes
        whole = PixelCounts(len(classes), counts.sum(axis=0))
        clear = judge_maps(
            {name: predict}, held_out_maps(self._run, "test", clear=True), len(classes)
        )
        RecordedCounts(tuple(places), counts.astype(np.float64)).write(self.files, name, self.seed)
        simulated = list(self._run.dataset.simulated)
        record = {
            "method": name,
            "seed": self.seed,
            "adds": METHODS[name].adds,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "told": dataclasses.asdict(map_told(METHODS[name].gifts, self._run.options)),
            "config": self._run.options.as_dict(),
            "simulated": simulated + ["clouds"] * self._run.options.clouds.simulate,
            "places": places,
            "metrics": whole.report(classes),
            "metrics_clear": clear[name].report(classes),
        }
        write_atomic(self.files.record(name, self.seed), json.dumps(record, indent=2) + "\n")

    def _by_place(self, predict: MapPredictor, places: list[str]) -> np.ndarray:
        """Count under clouds, ``(places, bins + 1, 3, K, K + 1)``."""
        groups = self._run.dataset.groups
        counts = {place: PixelCounts(len(self._run.dataset.classes)) for place in places}
        parts = held_out_maps(self._run, "test")
        for _, index, answered in answered_maps({"": predict}, parts):
            counts[groups[index]].add(*answered)
        return np.stack([counts[place].matrices for place in places])


def open_both(train: str, test: str, options: SegmentationOptions) -> TrainTestMaps:
    """Open what is learned and what is judged.

    Raises:
        InputError: The two do not fit.
    """
    classes = options.classes or ()
    return TrainTestMaps(
        open_map_dataset(train, options.seed, classes),
        open_map_dataset(test, options.seed, classes),
    )
