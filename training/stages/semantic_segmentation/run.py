"""A run of semantic segmentation: teacher -> student.

Every ``train_...`` trains its stage, goes on where it stopped, or loads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from esccs_edge.contracts.modality import SampleSpec
from esccs_edge.errors import InputError

from ...datasets.map_dataset import MapDataset
from ...learning.cloudseg import CloudSegNet, CloudSegTeacher
from ...samples.map_samples import DegradedMaps, MapDegradation, MapSamples
from ...samples.map_specs import map_specs
from ...segmentation_options import SegmentationOptions
from ...simulate.textures import CloudTextures
from ..training_run import TrainingRun
from .map_stage import MapStage
from .student import MapStudentStage
from .teacher import MapTeacherStage


@dataclass(frozen=True)
class MapNetworks:
    """What a run has trained; the student is the one that is deployed."""

    teacher: CloudSegTeacher
    student: CloudSegNet


@dataclass(frozen=True)
class MapRun(TrainingRun):
    """Options, data and folder of a run, and its stages.

    Attributes:
        textures: Real cloud shapes and spectra, or None.
    """

    options: SegmentationOptions
    dataset: MapDataset
    textures: CloudTextures | None
    _kept: dict[tuple[MapDegradation, str], MapSamples] = field(default_factory=dict)

    @classmethod
    def open(cls, options: SegmentationOptions, dataset: MapDataset, folder: Path) -> MapRun:
        """Measure the contracts; nothing is written yet.

        Raises:
            InputError: The training split lacks a modality or a class, or the images do not fit.
        """
        if len(dataset.classes) < 2:
            raise InputError(
                f"{dataset.name} has the classes {list(dataset.classes)}, expected at least two",
                hint="Name them in the option 'classes', in the order of their numbers",
            )
        clouds = options.clouds
        textures = CloudTextures.read(clouds.textures) if clouds.textures else None
        seen = cloudy(options, textures)
        optical, sar = map_specs(dataset, seen, options.crop, options.seed)
        sample = SampleSpec(options.crop, options.crop, options.pixel_size_m)
        return cls(options, dataset, folder, {"optical": optical, "sar": sar}, sample, textures)

    def with_options(self, options: SegmentationOptions, folder: Path | None = None) -> MapRun:
        """Return the run with other options for the stages after the teacher; data are shared."""
        return replace(self, options=options, folder=folder or self.folder)

    def train_teacher(self) -> CloudSegTeacher:
        """Train the network that sees clear optical images, SAR and labels."""
        self.seed_weights("teacher")
        stage = MapTeacherStage(self.channels, len(self.dataset.classes), self.options)
        clear = replace(cloudy(self.options, self.textures), cover=0.0, mask="simulator")
        if not self.options.clouds.simulate:
            clear = replace(clear, cover=None, clear_share=1.0)
        self.let_validate(stage, clear)
        return self.fit(stage, self.samples(clear))

    def train_student(self, teacher: CloudSegTeacher, name: str = "student") -> CloudSegNet:
        """Train the deliverable.

        Args:
            teacher: What teaches.
            name: Names its files and draws; all students of a seed begin at the same weights.
        """
        self.seed_weights("student")
        optical, sar = self.modalities.values()
        classes = len(self.dataset.classes)
        stage = MapStudentStage(optical, sar, classes, self.options, teacher, name)
        self.let_validate(stage, cloudy(self.options, self.textures))
        return self.fit(stage, self.cloudy_samples(self.options.student.drop_share)).deployed()

    def let_validate(self, stage: MapStage[Any], seen: MapDegradation) -> None:
        """Let a stage look at one window of each validation image, the same every time."""
        every = self.options.validate_every
        if every and "val" in self.dataset.splits:
            judged = replace(seen, turns=False, drop_share=0.0)
            stage.validate_on(self.samples(judged, "val"), every, len(self.dataset.classes))

    @property
    def channels(self) -> tuple[int, int]:
        """Number of optical and of SAR channels."""
        optical, sar = self.modalities.values()
        return len(optical.channels), len(sar.channels)

    def cloudy_samples(self, drop_share: float = 0.0) -> MapSamples:
        """Return the training windows as the student sees them."""
        seen = cloudy(self.options, self.textures)
        return self.samples(replace(seen, drop_share=drop_share))

    def samples(self, degradation: MapDegradation, split: str = "train") -> MapSamples:
        """Return a split as tensors; draws that repeat are made once for all stages."""
        draws = self.options.clouds.draws
        key = degradation, split
        if draws and key in self._kept:
            return self._kept[key]
        optical, sar = self.modalities.values()
        maps = DegradedMaps(self.dataset, split, degradation, self.options.crop, self.options.seed)
        samples = MapSamples(maps, optical, sar, draws)
        if draws:
            self._kept[key] = samples
        return samples


def cloudy(options: SegmentationOptions, textures: CloudTextures | None) -> MapDegradation:
    """What the student learns on."""
    clouds = options.clouds
    return MapDegradation(
        cover=(0.0, 1.0) if clouds.simulate else None,
        clear_share=clouds.clear_share,
        mask=options.cloud_mask,
        cut_anywhere=True,
        turns=options.turns,
        textures=textures,
    )
