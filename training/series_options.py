"""Options of the tasks on time series: data, gaps, networks, losses and schedules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .options import RunOptions, Schedule, require


@dataclass(frozen=True)
class SeriesDataOptions:
    """How the data set is read.

    Attributes:
        legend: WorldCereal: ``"cropland"`` (temporary crops or not) or ``"crops"``.
        step: WorldCereal: slots of the calendar, ``"month"``, ``"dekad"`` or ``"auto"``.
        sensors: Those that are learned from.
    """

    legend: Literal["cropland", "crops"] = "cropland"
    step: Literal["auto", "month", "dekad"] = "auto"
    sensors: tuple[str, ...] = ("optical", "sar")

    def __post_init__(self) -> None:
        known = self.sensors in (("optical", "sar"), ("optical",), ("sar",))
        require(known, "sensors", self.sensors, "optical, sar or both, in this order")


@dataclass(frozen=True)
class GapOptions:
    """Which dates the student must do without while it learns.

    The optical dates are masked, as by clouds; SAR dates only where there is no optical sensor.

    Attributes:
        highest_rate: Rates are uniform from 0 to this share of the dates that were observed.
        complete_share: Share of draws in which no date is masked.
        uniform: Weight of masks of random dates.
        gap: Weight of masks of neighboring dates.
        seasonal: Weight of masks that are likelier in cloudy months.
        drop_share: Share of draws that lose one of two sensors altogether; the teacher too is
            taught to do without, or it would lean on one sensor and leave the other untaught.
        noise: Standard deviation of what is added to every seen value, normalized, while networks
            learn; half of it is common to all dates of a channel.
        shift: Whole series are moved by up to so many slots while networks learn, as seasons
            differ from place to place and from year to year.
    """

    highest_rate: float = 0.8
    complete_share: float = 0.1
    uniform: float = 0.5
    gap: float = 0.3
    seasonal: float = 0.2
    drop_share: float = 0.3
    noise: float = 0.1
    shift: int = 0

    def __post_init__(self) -> None:
        for name in ("highest_rate", "complete_share", "drop_share"):
            value = getattr(self, name)
            require(0 <= value <= 1, name, value, "a share from 0 to 1")
        require(self.noise >= 0, "noise", self.noise, "0 or more")
        require(self.shift >= 0, "shift", self.shift, "0 or more")
        weights = self.uniform, self.gap, self.seasonal
        require(min(weights) >= 0 < sum(weights), "uniform", weights, "weights, not all 0")


@dataclass(frozen=True)
class PixelSeriesOptions:
    """The network of a pixel series.

    Attributes:
        temporal: ``"convolution"`` over dates, or ``"attention"``: one learned query per head.
        width: Channels per date and sensor.
        features: Length of what the temporal encoder hands to the head, per sensor.
        heads: Of attention.
        dropout: Before the head.
    """

    temporal: Literal["convolution", "attention"] = "convolution"
    width: int = 32
    features: int = 64
    heads: int = 4
    dropout: float = 0.2

    def __post_init__(self) -> None:
        fits = self.width >= self.heads >= 1 and self.width % self.heads == 0
        require(fits, "width", self.width, f"a multiple of heads, {self.heads}")
        require(self.features >= 1, "features", self.features, "1 or more")


@dataclass(frozen=True)
class SeriesTeacherOptions:
    """The teacher, which sees every date that was observed."""

    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=60, batch_size=32))


@dataclass(frozen=True)
class SeriesStudentOptions:
    """The deliverable, and what it learns by.

    Attributes:
        reconstruct: Whether missing dates are filled with reconstructed features.
        couple: Whether what is reconstructed goes into the prediction; False is a row to compare
            with: reconstruction then only shapes the features.
        reconstruction_weight: Weight of the distance to the teacher's features.
        global_weight: Weight, within it, of the distance of the temporal features.
        answer_weight: Weight of the teacher's soft answers.
        answer_temperature: Softens both sides of these answers.
        complete_share: Share of batches that are seen complete besides.
        warmup_epochs: Epochs in which the weight of reconstruction rises from 0.
        schedule: How long and how fast.
    """

    reconstruct: bool = True
    couple: bool = True
    reconstruction_weight: float = 1.0
    global_weight: float = 1.0
    answer_weight: float = 0.5
    answer_temperature: float = 2.0
    complete_share: float = 0.25
    warmup_epochs: int = 5
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=80, batch_size=32))

    def __post_init__(self) -> None:
        for name in ("reconstruction_weight", "global_weight", "answer_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.complete_share <= 1, "complete_share", self.complete_share,
                "a share from 0 to 1")  # fmt: skip
        require(self.answer_temperature > 0, "answer_temperature", self.answer_temperature,
                "above 0")  # fmt: skip
        expected = "0 where reconstruct is false"
        fits = self.reconstruct or self.reconstruction_weight == 0
        require(fits, "reconstruction_weight", self.reconstruction_weight, expected)


@dataclass(frozen=True)
class SeriesClassificationOptions(RunOptions):
    """A run of series classification.

    Attributes:
        series: How the data set is read.
        gaps: Which dates the student must do without.
        network: Of teacher and student.
        teacher: The teacher.
        student: The student.
        baselines: Train and judge more students beside it: ``"masks"`` (masked dates, labels
            alone), ``"reconstruction"`` (not coupled to the prediction), ``"answers"`` (the
            teacher's answers, no reconstruction), ``"attention"`` (masks, with temporal
            attention); and a random forest.
    """

    task: str = "series-classification"
    series: SeriesDataOptions = field(default_factory=SeriesDataOptions)
    gaps: GapOptions = field(default_factory=GapOptions)
    network: PixelSeriesOptions = field(default_factory=PixelSeriesOptions)
    teacher: SeriesTeacherOptions = field(default_factory=SeriesTeacherOptions)
    student: SeriesStudentOptions = field(default_factory=SeriesStudentOptions)
    baselines: bool = False


@dataclass(frozen=True)
class FcnOptions:
    """The 3-D FCN; the defaults are the network of the paper.

    Attributes:
        widths: Channels of the four convolutions down, each at half the resolution.
        decoder: Channels of the four up.
    """

    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    decoder: tuple[int, int, int, int] = (128, 64, 32, 16)

    def __post_init__(self) -> None:
        for name in ("widths", "decoder"):
            require(min(getattr(self, name)) >= 1, name, getattr(self, name), "1 or more each")


@dataclass(frozen=True)
class ImageSeriesOptions:
    """How the data set of image series is read.

    Attributes:
        sensor: The one that is learned from; None: optical, or SAR where it is alone.
        held_out: Data sets in five folds: the one that tests.
        classes: ``index``: class names in the order of the numbers in the label rasters.
        step: ``index``: slots of the calendar, ``"month"`` or ``"dekad"``.
    """

    sensor: Literal["optical", "sar"] | None = None
    held_out: int = 0
    classes: tuple[str, ...] | None = None
    step: Literal["month", "dekad"] = "month"

    def __post_init__(self) -> None:
        require(0 <= self.held_out < 5, "held_out", self.held_out, "a fold from 0 to 4")


@dataclass(frozen=True)
class SeriesSegmentationOptions(RunOptions):
    """A run of series segmentation: one network, taught by labels on the dates that there are.

    Attributes:
        backbone: ``"fcn3d"``, or ``"utae"`` at the sizes that its authors publish.
        network: Sizes of the 3-D FCN.
        loss: ``"iou"`` as in the paper, ``"dice"`` or ``"cross-entropy"``.
        optimizer: ``"adamw"`` with warm-up and cosine, or ``"sgd"`` with momentum 0.9 at a
            constant rate, as in the paper.
        series: How the data set is read.
        gaps: Dates masked while it learns; the paper masks none.
        schedule: How long and how fast.
    """

    task: str = "series-segmentation"
    pixel_size_m: float = 30.0
    backbone: Literal["fcn3d", "utae"] = "fcn3d"
    network: FcnOptions = field(default_factory=FcnOptions)
    loss: Literal["iou", "dice", "cross-entropy"] = "iou"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    series: ImageSeriesOptions = field(default_factory=ImageSeriesOptions)
    gaps: GapOptions = field(
        default_factory=lambda: GapOptions(complete_share=1.0, drop_share=0.0, noise=0.0)
    )
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=60, batch_size=2))
