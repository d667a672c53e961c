"""Options of scene classification: teacher, auxiliaries, student, and what they see."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .options import CloudOptions, RunOptions, Schedule, require, require_shares


@dataclass(frozen=True)
class EncoderOptions:
    """One encoder; its sizes are for that of this package, another's factory may read them.

    Attributes:
        width: Channels at the first resolution; each further one doubles them.
        blocks: Residual blocks per resolution; every resolution but the first is half the last.
        stem_stride: By how much the first convolution lowers the resolution.
        block: ``"residual"`` (two convolutions and a shortcut) or ``"reparameterized"`` (one
            convolution, taught as three); see `networks`.
        encoder: Factory, ``"package.module:factory"``; see `networks`.
    """

    width: int = 24
    blocks: tuple[int, ...] = (1, 1, 1)
    stem_stride: int = 2
    block: Literal["residual", "reparameterized"] = "residual"
    encoder: str = "esccs_edge.training.learning.networks:convolutional"

    def __post_init__(self) -> None:
        require(self.width >= 1, "width", self.width, "1 or more")
        require(self.stem_stride in (1, 2, 4), "stem_stride", self.stem_stride, "1, 2 or 4")
        require(min(self.blocks) >= 1, "blocks", self.blocks, "1 or more at each resolution")


@dataclass(frozen=True)
class AugmentOptions:
    """What is changed besides the turns and gains that the samples bring.

    Attributes:
        shift_px: Largest shift in rows and columns; the border is mirrored.
        gain_std: Standard deviation of a factor and of an offset, both on normalized pixels.
        mix_share: Share of teacher batches whose images and labels are mixed in pairs.
    """

    shift_px: int = 8
    gain_std: float = 0.02
    mix_share: float = 0.0

    def __post_init__(self) -> None:
        require(self.shift_px >= 0, "shift_px", self.shift_px, "0 or more")
        require_shares(self, "mix_share")


@dataclass(frozen=True)
class RealPairsOptions:
    """Real clear, cloudy and SAR images of places without labels, learned beside the data set.

    The teacher never learns on them: its answers on their clear images teach the stages after it.

    Attributes:
        data: ``"sen12ms-cr:PATH"``, or empty for none.
        stride: Pixels between the patches that are cut from an image, in rows and columns.
        clear_share: Share of draws that show the clear image instead of the cloudy one.
        places: How many places to learn from, the first in an order that the seed draws; 0: all.
            For a curve of the score over places.
    """

    data: str = ""
    stride: int = 32
    clear_share: float = 0.3
    places: int = 0

    def __post_init__(self) -> None:
        require(self.stride >= 1, "stride", self.stride, "1 or more")
        require(self.places >= 0, "places", self.places, "0 or more")
        require_shares(self, "clear_share")


@dataclass(frozen=True)
class FoldOptions:
    """Cross-validation: which places are held out instead of the data set's own splits.

    Attributes:
        count: Folds by place; 0 keeps the splits of the data set, 1 trains on everything.
        held_out: The fold that is judged; all others train.
    """

    count: int = 0
    held_out: int = 0

    def __post_init__(self) -> None:
        require(self.count >= 0, "count", self.count, "0 or more")
        expected = f"a fold from 0 to {max(self.count - 1, 0)}"
        require(0 <= self.held_out < max(self.count, 1), "held_out", self.held_out, expected)


@dataclass(frozen=True)
class TeacherOptions:
    """The teacher, taught by labels on cloud-free optical images.

    Attributes:
        factory: Of a teacher of your own, ``"package.module:factory"``, which is asked and not
            trained; see `learning.own_teacher`. Empty: the run trains one, as said below.
        network: Its encoder.
        dropout: Before the head.
        label_smoothing: Share of each target that is spread over all classes.
        members: Networks that are trained from different starts; the teacher answers with the
            mean of their probabilities.
        schedule: How long and how fast each of them learns.
    """

    factory: str = ""
    network: EncoderOptions = field(default_factory=EncoderOptions)
    dropout: float = 0.2
    label_smoothing: float = 0.1
    members: int = 1
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        require(self.members >= 1, "members", self.members, "1 or more")


@dataclass(frozen=True)
class FilterOptions:
    """Which answers of the teacher may be taken for labels.

    Attributes:
        confidence: Least probability of the answer.
        top_share: Share of the reliable answers of a class to keep, most confident first.
        reliability: Least reliability of the teacher on the sample.
    """

    confidence: float = 0.7
    top_share: float = 0.8
    reliability: float = 0.5

    def __post_init__(self) -> None:
        require_shares(self, "confidence", "top_share", "reliability")


@dataclass(frozen=True)
class AuxiliaryOptions:
    """Sub-task F1: one auxiliary per modality, taught by the teacher.

    Attributes:
        optical: Size of the one for optical images.
        sar: Size of the one for SAR.
        dropout: Before the head.
        schedule: How long and how fast.
        filter: Which answers of the teacher teach them.
        blend: The optical one learns from the SAR one where the teacher cannot be believed; false:
            from the teacher's answers that pass the filter alone, as the paper draws it.
    """

    optical: EncoderOptions = field(default_factory=EncoderOptions)
    sar: EncoderOptions = field(default_factory=lambda: EncoderOptions(width=16))
    dropout: float = 0.2
    schedule: Schedule = field(default_factory=Schedule)
    filter: FilterOptions = field(default_factory=FilterOptions)
    blend: bool = True


@dataclass(frozen=True)
class IrmOptions:
    """Information regulation mechanism; see `esccs_edge.training.learning.irm`.

    Attributes:
        beta: Exponent of the ratio; 0 switches the mechanism off, below 0 it trusts the stronger.
        clip: The ratio is kept within ``1 / clip`` and ``clip``.
        warmup_epochs: Epochs of the student with all weights 1.
    """

    beta: float = 0.5
    clip: float = 10.0
    warmup_epochs: int = 5

    def __post_init__(self) -> None:
        require(self.clip > 1, "clip", self.clip, "above 1")


@dataclass(frozen=True)
class StudentOptions:
    """Sub-task F2: the deliverable, taught by the teacher and both auxiliaries.

    Attributes:
        optical: Size of the optical branch.
        sar: Size of the SAR branch.
        dropout: Before the head.
        teacher_weight: Weight of the teacher's loss, before its reliability.
        auxiliary_weight: Weight of both auxiliaries' losses, before IRM.
        gate_weight: Weight of the gate's supervision; 0 leaves the gate to the other losses.
        gate_target: What the gate should show: the auxiliaries' ``"contributions"``, or the
            ``"clear-share"`` of the optical image: 1 - its cover, simulated or of a mask.
        gate_sharpness: How closely the gate follows the better modality (``"contributions"``).
        drop_share: Share of training pairs that lose one modality.
        schedule: How long and how fast.
        irm: Information regulation.
    """

    optical: EncoderOptions = field(default_factory=EncoderOptions)
    sar: EncoderOptions = field(default_factory=lambda: EncoderOptions(width=16))
    dropout: float = 0.2
    teacher_weight: float = 1.0
    auxiliary_weight: float = 1.0
    gate_weight: float = 0.2
    gate_target: Literal["contributions", "clear-share"] = "contributions"
    gate_sharpness: float = 1.0
    drop_share: float = 0.2
    schedule: Schedule = field(default_factory=Schedule)
    irm: IrmOptions = field(default_factory=IrmOptions)

    def __post_init__(self) -> None:
        require_shares(self, "drop_share")


@dataclass(frozen=True)
class DistillationOptions:
    """What the auxiliaries and the student share.

    Attributes:
        temperature: Softens both sides of every distillation loss.
        label_weight: Weight of the true labels in the auxiliaries' and the student's loss; 0 is
            the protocol of the paper, where the cloudy images have no labels.
        teacher_input: What the teacher looks at: the ``"clear"`` image of the pair, where
            one exists, or the ``"cloudy"`` one, the protocol of the paper.
        teacher_views: Whether the teacher's answer on a pair comes from ``"each"`` view on its
            own, or from ``"all"`` views of the pair, the clear ones before the cloudy ones.
        reliable_clear_share: Estimated clear share at which the teacher starts to be
            believed, and at which it is fully believed (``"cloudy"`` input only).
    """

    temperature: float = 3.0
    label_weight: float = 0.0
    teacher_input: Literal["clear", "cloudy"] = "cloudy"
    teacher_views: Literal["each", "all"] = "each"
    reliable_clear_share: tuple[float, float] = (0.4, 0.9)

    def __post_init__(self) -> None:
        low, high = self.reliable_clear_share
        require(low < high, "reliable_clear_share", (low, high), "two rising shares")
        require(self.temperature > 0, "temperature", self.temperature, "above 0")


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """A whole run of scene classification.

    Attributes:
        target_share: Share of the training groups that act as the target: cloudy, without labels,
            never seen by the teacher. 0: teacher and student learn on the same pairs.
        folds: Cross-validation, or training on everything.
        target_unlabeled: The training pairs without a label act as the target instead, and those
            with one teach the teacher alone.
        rehearsal: Share of the samples after the teacher that are the teacher's own clear pairs,
            without SAR, beside those of the target. 0: the target alone.
        temperature: Of the student, where no validation pairs are left to fit it on.
        cross_validation: ``report.json`` of a cross-validation with these options; its temperature
            is taken then, and its numbers stand in the provenance.
        warm_start: Start optical networks at the teacher's weights, and the student at those of
            both auxiliaries; their sizes must agree then. A teacher of your own gives no start.
    """

    task: str = "scene-classification"
    target_share: float = 0.0
    target_unlabeled: bool = False
    warm_start: bool = False
    rehearsal: float = 0.0
    temperature: float = 1.0
    cross_validation: str = ""
    folds: FoldOptions = field(default_factory=FoldOptions)
    clouds: CloudOptions = field(default_factory=CloudOptions)
    real_pairs: RealPairsOptions = field(default_factory=RealPairsOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    distillation: DistillationOptions = field(default_factory=DistillationOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    auxiliary: AuxiliaryOptions = field(default_factory=AuxiliaryOptions)
    student: StudentOptions = field(default_factory=StudentOptions)

    def __post_init__(self) -> None:
        seen = self.distillation.teacher_input
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        require(0 <= self.target_share < 1, "target_share", self.target_share, "0 or more, below 1")
        expected = "0 where target_unlabeled is true: the target is what has no label"
        require(not (self.target_unlabeled and self.target_share), "target_share",
                self.target_share, expected)  # fmt: skip
        require(0 <= self.rehearsal < 1, "rehearsal", self.rehearsal, "0 or more, below 1")
        expected = "0 where there is no target: the teacher's pairs are those of all stages then"
        require(self.has_target or not self.rehearsal, "rehearsal", self.rehearsal, expected)
        given = not self.cross_validation or self.folds.count == 1
        expected = "none unless folds.count is 1: it speaks for a model that trains on everything"
        require(given, "cross_validation", self.cross_validation, expected)
        if self.warm_start:
            sizes = self.auxiliary.optical, self.auxiliary.sar
            expected = f"warm_start needs {sizes} here as in auxiliary.optical, auxiliary.sar"
            found = self.student.optical, self.student.sar
            require(found == sizes, "student", found, expected)
            same = self.teacher.factory or self.teacher.network == sizes[0]
            require(bool(same), "teacher.network", self.teacher.network,
                     f"warm_start needs {sizes[0]} here as in auxiliary.optical")  # fmt: skip
            expected = "empty where warm_start is true: that starts at networks of the run itself"
            require(not self.init, "init", self.init, expected)
        is_there = self.clouds.simulate or seen == "cloudy"
        expected = "'cloudy' where clouds.simulate is false: there is no clear image then"
        require(is_there, "distillation.teacher_input", seen, expected)
        if self.real_pairs.data:
            expected = "'clear' where real_pairs.data is given: their clear images teach"
            require(seen == "clear", "distillation.teacher_input", seen, expected)

    @property
    def has_target(self) -> bool:
        """Whether some training pairs are a target whose labels and clear images are not known."""
        return self.target_share > 0 or self.target_unlabeled

    @property
    def starts_at_teacher(self) -> bool:
        """Whether optical networks start at the teacher's weights; one from elsewhere has none."""
        return self.warm_start and not self.teacher.factory

    def without_paths(self) -> dict[str, Any]:
        """Return the plain values; of the folder of textures only its name."""
        found = super().without_paths()
        found["clouds"]["textures"] = Path(self.clouds.textures).name
        found["real_pairs"]["data"] = Path(self.real_pairs.data).name
        found["cross_validation"] = Path(self.cross_validation).name
        return found
