"""A run of series classification: teacher, student and the baselines that are trained beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esccs_edge.contracts.modality import SampleSpec
from esccs_edge.errors import InputError

from ...datasets.series import SeriesDataset, require_split
from ...learning.series.pixel_series import PixelSeriesNet
from ...samples.series_samples import FixedGaps, SeriesSamples, series_specs
from ...series_options import (
    GapOptions,
    PixelSeriesOptions,
    SeriesClassificationOptions,
    SeriesStudentOptions,
)
from ..training_run import TrainingRun
from .classification import SeriesStudentStage, SeriesTeacherStage

#: Students that the deliverable is compared with.
ROWS = ("masks", "reconstruction", "answers", "attention")


@dataclass(frozen=True)
class SeriesNetworks:
    """What the stages have trained.

    Attributes:
        teacher: On complete series.
        student: The network that is exported.
        rows: Baselines by name.
    """

    teacher: PixelSeriesNet
    student: PixelSeriesNet
    rows: Mapping[str, PixelSeriesNet]


class SeriesRun(TrainingRun):
    """A run with one method per stage; see `TrainingRun`."""

    options: SeriesClassificationOptions
    dataset: SeriesDataset

    @classmethod
    def open(
        cls, options: SeriesClassificationOptions, dataset: SeriesDataset, folder: Path
    ) -> SeriesRun:
        """Measure the contracts on the training split; writes nothing.

        Raises:
            InputError: The data set lacks a sensor or a split, or shows more than one pixel.
        """
        require_split(dataset, "train", "val", "test")
        dates, height, width = dataset.size
        if (height, width) != (1, 1):
            raise InputError(
                f"{dataset.name} has series of {height} x {width} pixels, expected single pixels",
                hint="Train image series with --task series-segmentation",
            )
        modalities = series_specs(dataset, options.series.sensors, options.seed)
        sample = SampleSpec(1, 1, options.pixel_size_m, dates, dataset.calendar)
        return cls(options, dataset, folder, modalities, sample)

    def samples(self, split: str, gaps: FixedGaps) -> SeriesSamples:
        """Return a split with fixed gaps."""
        return SeriesSamples(self.dataset, split, self.modalities, gaps, self.options.seed)

    def drawn(self, gaps: GapOptions) -> SeriesSamples:
        """Return the training split with gaps drawn anew in each epoch."""
        return SeriesSamples(self.dataset, "train", self.modalities, gaps, self.options.seed)

    def train_teacher(self) -> PixelSeriesNet:
        """Train the teacher on all observed dates."""
        self.seed_weights("teacher")
        net = self._network(self.options.network, reconstruct=False, couple=True)
        options = self.options
        stage = SeriesTeacherStage(net, tuple(self.modalities), options.teacher, options.seed)
        whole = dataclasses.replace(options.gaps, complete_share=1.0)
        return self.fit(stage, self.drawn(whole))

    def train_student(
        self, teacher: PixelSeriesNet, options: SeriesStudentOptions, name: str
    ) -> PixelSeriesNet:
        """Train a student on masked series."""
        self.seed_weights(name)
        sizes = self.options.network
        if name == "attention":
            sizes = dataclasses.replace(sizes, temporal="attention")
        net = self._network(sizes, reconstruct=options.reconstruct, couple=options.couple)
        stage = SeriesStudentStage(
            net, teacher, tuple(self.modalities), options, name, self.options.seed
        )
        return self.fit(stage, self.drawn(self.options.gaps))

    def train_rows(self, teacher: PixelSeriesNet) -> dict[str, PixelSeriesNet]:
        """Train the baselines; they differ from the student in what they learn by.

        The row ``"attention"`` has another temporal encoder besides.
        """
        return {
            name: self.train_student(teacher, row_options(self.options.student, name), name)
            for name in (ROWS if self.options.baselines else ())
        }

    def _network(
        self, sizes: PixelSeriesOptions, *, reconstruct: bool, couple: bool
    ) -> PixelSeriesNet:
        channels = [len(spec.channels) for spec in self.modalities.values()]
        assert self.sample.dates is not None
        return PixelSeriesNet(
            channels,
            self.sample.dates,
            len(self.dataset.classes),
            sizes,
            reconstruct=reconstruct,
            couple=couple,
        )


def row_options(student: SeriesStudentOptions, name: str) -> SeriesStudentOptions:
    """Return the student's options as a baseline changes them."""
    if name == "reconstruction":
        return dataclasses.replace(student, couple=False, answer_weight=0.0)
    without = dataclasses.replace(student, reconstruct=False, reconstruction_weight=0.0)
    return without if name == "answers" else dataclasses.replace(without, answer_weight=0.0)
