"""A run of scene classification: teacher -> SAR auxiliary -> optical auxiliary -> student.

Every ``train_...`` trains its stage, goes on where it stopped, or loads it, and returns the
network; what a stage needs of earlier ones is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from esccs_edge.contracts.modality import ModalitySpec, SampleSpec
from esccs_edge.errors import InputError

from ...datasets import PairDataset, open_dataset
from ...datasets.splits import folds_by_group, place_splits
from ...datasets.triplets import Chips
from ...learning.factories import ENCODERS
from ...learning.losses import class_weights
from ...learning.networks import Ensemble, StudentNet, UnimodalNet, check_encoder
from ...learning.own_teacher import AnyTeacher, AskedTeacher, Teacher, teacher_named
from ...learning.pseudo_labels import PseudoLabelFilter, filter_report
from ...samples.degraded import Degradation, SarSource
from ...samples.epoch_samples import EpochSamples, JoinedSamples
from ...samples.fold import FoldDataset
from ...samples.rehearsed import RehearsedSamples
from ...samples.samples import CloudySamples, patch_size
from ...samples.specs import modality_specs
from ...samples.transfer_parts import labeled_and_target, labeled_and_unlabeled
from ...samples.usable import require_trainable
from ...scene_options import TrainOptions
from ...simulate.textures import CloudTextures
from ..stage import Batch
from ..training_run import TrainingRun
from .auxiliary import (
    ApartOpticalStage,
    AuxiliaryStage,
    OpticalAuxiliaryStage,
    SarAuxiliaryStage,
)
from .student import StudentStage
from .teacher import TeacherStage
from .teacher_answers import AllViews, EachView, KnownAnswers, Supervision


@dataclass(frozen=True)
class Networks:
    """What a run has trained; the teacher is that of the supervision."""

    supervision: Supervision
    sar_auxiliary: UnimodalNet
    optical_auxiliary: UnimodalNet
    student: StudentNet


@dataclass(frozen=True)
class SceneRun(TrainingRun):
    """Options, data and folder of a run, and its stages.

    Attributes:
        labeled: The data set with the training pairs that the teacher learns on.
        target: The data set with the training pairs that all later stages learn on: the same
            ones or, with ``options.has_target``, those of other places, labels hidden.
        textures: Real cloud shapes and spectra, or None.
        real: Truly cloudy pairs of further places, without labels, or None.
        own_teacher: What teaches in place of a network that the run trains, or None.
    """

    options: TrainOptions
    dataset: PairDataset
    labeled: PairDataset
    target: PairDataset
    textures: CloudTextures | None
    real: Chips | None = None
    own_teacher: AskedTeacher | None = None
    _kept: dict[tuple[int, str, Degradation], CloudySamples] = field(default_factory=dict)

    @classmethod
    def open(
        cls, options: TrainOptions, dataset: PairDataset, folder: Path,
        teacher: Teacher | None = None,
    ) -> SceneRun:  # fmt: skip
        """Divide the data and measure the contracts; nothing is written yet.

        Args:
            options: The run.
            dataset: All splits.
            folder: Run folder.
            teacher: Teaches in place of one that the run trains, or that the options name.

        Raises:
            InputError: The training split has labels of fewer than two classes, lacks a modality,
                the patches are not square, the cloud textures cannot be read, a factory of the
                user does not make what it should, or `require_trainable` refuses the data.
        """
        if options.folds.count:
            dataset = FoldDataset(dataset, options.folds, options.seed)
        parts: tuple[PairDataset, PairDataset] = dataset, dataset
        if options.target_unlabeled:
            parts = labeled_and_unlabeled(dataset)
        elif options.target_share:
            parts = labeled_and_target(dataset, options.target_share, options.seed)
        if teacher is None and options.teacher.factory:
            teacher = teacher_named(options.teacher.factory, dataset.classes)
        if teacher is None:
            _check_labels(parts[0])
        sample = _square_sample(dataset, options.pixel_size_m)
        clouds = options.clouds
        textures = CloudTextures.read(clouds.textures) if clouds.textures else None
        real = _real_pairs(options, dataset, sample.height)
        optical, sar = modality_specs(dataset, options.seed, textures, real, taught_sar(options))
        specs = {"optical": optical, "sar": sar}
        require_trainable(dataset, specs, sample)
        _check_encoders(options, specs, sample)
        asked = None if teacher is None else AskedTeacher(teacher, optical, len(dataset.classes))
        return cls(options, dataset, folder, specs, sample, *parts, textures, real, asked)

    def with_options(self, options: TrainOptions, folder: Path | None = None) -> SceneRun:
        """Return the run with other options for the stages after the teacher.

        Data, contracts and kept samples are shared, not made again.

        Args:
            options: The changed options.
            folder: Where its stages are kept; None: in the same folder.
        """
        return replace(self, options=options, folder=folder or self.folder)

    # ---- stages ---------------------------------------------------------------------------------

    def train_teacher(self) -> AnyTeacher:
        """Train the network, or the networks, that see clear optical images and their labels.

        A teacher that the user brought is returned as it is.
        """
        if self.own_teacher is not None:
            return self.own_teacher
        samples = self.clear_labeled_samples()
        members = []
        for number in range(1, self.options.teacher.members + 1):
            name = "teacher" if number == 1 else f"teacher-{number}"
            self.seed_weights(name)
            stage = TeacherStage(self.channels[0], self.label_weights(), self.options, name)
            members.append(self.fit(stage, samples))
        return members[0] if len(members) == 1 else Ensemble(members).eval()

    def supervise(self, teacher: AnyTeacher) -> Supervision:
        """Ask the teacher about all cloudy training pairs and choose the answers that may teach."""
        answers: EachView | AllViews
        answers = each_view = EachView(teacher, self.options.distillation)
        if self.options.distillation.teacher_views == "all":
            count = len(self.dataset) + (0 if self.real is None else len(self.real))
            answers = AllViews(each_view, self.every_view(), count)
        known = KnownAnswers.of(answers, self.every_view())
        chosen = PseudoLabelFilter.fit(
            known.probabilities, known.reliability, self.options.auxiliary.filter
        )
        kept = chosen.keep(known.probabilities, known.reliability)
        report = filter_report(kept, known.probabilities, known.labels)
        return Supervision(teacher, answers, chosen, report)

    def train_sar_auxiliary(self, supervision: Supervision) -> UnimodalNet:
        """Train the auxiliary that sees SAR only."""
        self.seed_weights("sar-auxiliary")
        stage = SarAuxiliaryStage(self.channels[1], self.label_weights(), self.options, supervision)
        return self.fit(stage, self.taught_samples())

    def train_optical_auxiliary(
        self, supervision: Supervision, sar_auxiliary: UnimodalNet
    ) -> UnimodalNet:
        """Train the auxiliary that sees cloudy optical images only."""
        self.seed_weights("optical-auxiliary")
        own = self.channels[0], self.label_weights(), self.options, supervision
        stage: AuxiliaryStage = (
            OpticalAuxiliaryStage(*own, sar_auxiliary)
            if self.options.auxiliary.blend
            else ApartOpticalStage(*own)
        )
        if self.options.starts_at_teacher:
            stage.start_at(supervision.first_teacher)
        return self.fit(stage, self.taught_samples())

    def train_student(
        self,
        supervision: Supervision,
        sar_auxiliary: UnimodalNet,
        optical_auxiliary: UnimodalNet,
        name: str = "student",
        form: type[StudentStage] = StudentStage,
        **frozen: torch.nn.Module,
    ) -> StudentNet:
        """Train the deliverable.

        Args:
            supervision: What the teacher answers.
            sar_auxiliary: One of its teachers.
            optical_auxiliary: The other.
            name: Names its files and draws; all students of a seed begin at the same weights.
            form: Stage with other losses, for comparisons.
            frozen: Further trained networks that the stage asks.
        """
        self.seed_weights("student")
        stage = form(
            self.channels, self.label_weights(), self.options, supervision, optical_auxiliary,
            sar_auxiliary, name,
        )  # fmt: skip
        stage.keep_frozen(**frozen)
        return self.fit(stage, self.taught_samples(self.options.student.drop_share))

    def initial_parts(self, stage: str) -> Mapping[str, str] | None:
        """Let teacher and auxiliaries start at the student's branch of their modality."""
        branch = "sar." if stage == "sar-auxiliary" else "optical."
        is_known = stage.startswith("teacher") or stage.endswith("-auxiliary")
        return {"encoder.": branch} if is_known else super().initial_parts(stage)

    # ---- data -----------------------------------------------------------------------------------

    @property
    def channels(self) -> tuple[int, int]:
        """Number of optical and of SAR channels."""
        optical, sar = self.modalities.values()
        return len(optical.channels), len(sar.channels)

    def samples(self, degradation: Degradation, split: str = "train") -> CloudySamples:
        """Return the target's training pairs, or a held-out split, as this run's tensors."""
        if split == "train" and self.options.has_target:
            degradation = replace(degradation, hide_labels=True)
        return self._tensors(self.target, split, degradation)

    def cloudy_samples(self, drop_share: float = 0.0) -> EpochSamples:
        """Return the target's training pairs under clouds."""
        target = self.samples(self._cloudy(drop_share))
        if self.real is None:
            return target
        share = self.options.real_pairs.clear_share
        as_they_are = Degradation(cover=0.0, clear_share=share, augment=True, drop_share=drop_share)
        real = self.real_samples(as_they_are)
        return JoinedSamples([(target, len(self.target)), (real, len(self.real))])

    def taught_samples(self, drop_share: float = 0.0) -> EpochSamples:
        """Return what all stages after the teacher learn on: the target, and rehearsal with it."""
        target, share = self.cloudy_samples(drop_share), self.options.rehearsal
        if not share:
            return target
        return RehearsedSamples(target, self.clear_labeled_samples(), share, self.options.seed)

    def real_samples(self, degradation: Degradation) -> CloudySamples:
        """Return the truly cloudy training pairs alone.

        Raises:
            ValueError: The run has none.
        """
        if self.real is None:
            raise ValueError("the run has no real pairs")
        return self._tensors(self.real, "train", degradation)

    def cloudy_samples_with_labels(self) -> CloudySamples:
        """Return the target's training pairs with their labels: for upper bounds only."""
        return self._tensors(self.target, "train", self._cloudy())

    def real_held_out(self) -> Chips | None:
        """Return the real pairs of held-out places, side by side; None where there are none."""
        if self.real is None or "test" not in self.real.splits:
            return None
        return replace(self.real, stride=self.real.size)

    def labeled_samples(self, degradation: Degradation) -> CloudySamples:
        """Return the labeled pairs that the teacher learns on."""
        return self._tensors(self.labeled, "train", degradation)

    def clear_labeled_samples(self) -> CloudySamples:
        """Return the teacher's labeled pairs as it sees them: clear, turned, without SAR."""
        return self.labeled_samples(Degradation(cover=0.0, augment=True, sar="absent"))

    def cloudy_labeled_samples(self) -> CloudySamples:
        """Return the teacher's labeled pairs under the clouds that the target has."""
        return self.labeled_samples(self._cloudy())

    def every_answer(self, teacher: AnyTeacher) -> KnownAnswers:
        """Return the teacher's answers on every cloudy view of the target on its own."""
        return KnownAnswers.of(EachView(teacher, self.options.distillation), self.every_view())

    def label_weights(self) -> torch.Tensor:
        """Factor per class, ``(K,)``, from the labels that may be known."""
        return class_weights(_train_labels(self.labeled), len(self.dataset.classes))

    def _cloudy(self, drop_share: float = 0.0) -> Degradation:
        clouds = self.options.clouds
        return Degradation(
            cover=(0.0, 1.0) if clouds.simulate else 0.0,
            clear_share=clouds.clear_share,
            augment=True,
            drop_share=drop_share,
            textures=self.textures,
            sar=taught_sar(self.options),
        )

    def _tensors(self, part: PairDataset, split: str, degradation: Degradation) -> CloudySamples:
        """Samples that draw anew are made anew; those that repeat are made once for all stages."""
        draws = self.options.clouds.draws
        key = id(part), split, degradation  # a part lives as long as the samples that read it
        if draws and key in self._kept:
            return self._kept[key]
        optical, sar = self.modalities.values()
        samples = CloudySamples(part, split, optical, sar, degradation, self.options.seed, draws)
        if draws:
            self._kept[key] = samples
        return samples

    def every_view(self) -> Iterator[Batch]:
        """Yield the cloudy training pairs in batches, once per draw."""
        samples = self.cloudy_samples()
        batch_size = self.options.auxiliary.schedule.batch_size
        for epoch in range(max(1, self.options.clouds.draws)):
            samples.set_epoch(epoch)
            yield from torch.utils.data.DataLoader(samples, batch_size, generator=torch.Generator())


def _real_pairs(options: TrainOptions, dataset: PairDataset, size: int) -> Chips | None:
    """Open the truly cloudy pairs in chips of ``size`` pixels; whole places are held out."""
    data, folds = options.real_pairs.data, options.folds
    if not data:
        return None
    real = open_dataset(data)
    if not isinstance(real, Chips):
        raise InputError(
            f"option 'real_pairs.data' is {data!r}, expected triplets: sen12ms-cr:PATH"
        )
    real = replace(real, size=size, stride=options.real_pairs.stride)
    for what in ("optical_channels", "sar_channels"):
        expected, found = getattr(dataset, what), getattr(real, what)
        if expected and found != expected:
            raise InputError(
                f"{what} of {real.name} are {found}, expected those of {dataset.name}, {expected}"
            )
    held_out: set[str] = set()
    if folds.count > 1:
        fold = folds_by_group(real.labels, real.groups, folds.count, options.seed)
        held_out = {real.groups[i] for i in np.flatnonzero(fold == folds.held_out)}
    places = options.real_pairs.places
    return replace(real, place_splits=place_splits(real.groups, held_out, places, options.seed))


def taught_sar(options: TrainOptions) -> SarSource:
    """Return what stands in for missing SAR while learning: the class may, where it is known."""
    return "from pixels" if options.has_target else "from class"


def _check_encoders(
    options: TrainOptions, specs: Mapping[str, ModalitySpec], sample: SampleSpec
) -> None:
    """Let each encoder of another package encode two patches, before any time is spent."""
    parts = {
        ("optical", options.teacher.network), ("optical", options.auxiliary.optical),
        ("sar", options.auxiliary.sar), ("optical", options.student.optical),
        ("sar", options.student.sar),
    }  # fmt: skip
    for modality, part in parts:
        if part.encoder not in ENCODERS:
            check_encoder(len(specs[modality].channels), part, (sample.height, sample.width))


def _square_sample(dataset: PairDataset, pixel_size_m: float) -> SampleSpec:
    height, width = patch_size(dataset)
    if height != width:
        raise InputError(
            f"the patches of {dataset.name} have {height} x {width} pixels, expected squares, "
            "since training turns them by quarters",
            hint="Cut the patches so that height and width are equal",
        )
    return SampleSpec(height, width, pixel_size_m)


def _train_labels(dataset: PairDataset) -> npt.NDArray[np.int64]:
    chosen = np.asarray(dataset.splits) == "train"
    labels: npt.NDArray[np.int64] = np.asarray(dataset.labels, np.int64)[chosen]
    return labels


def _check_labels(dataset: PairDataset) -> None:
    labels = _train_labels(dataset)
    found = sorted({dataset.classes[k] for k in labels[labels >= 0]})
    if len(found) < 2:
        raise InputError(
            f"the training split of {dataset.name} has labels of the classes {found}, "
            "expected at least two",
            hint="Check the columns label and split",
        )
