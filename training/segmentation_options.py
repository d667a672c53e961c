"""Options of semantic segmentation: networks, losses and schedules of teacher and student."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .options import CloudOptions, RunOptions, Schedule, require

#: An image is halved so often on its way down.
COARSEST_STRIDE = 32


@dataclass(frozen=True)
class PyramidOptions:
    """Encoders and decoders of teacher and student.

    Attributes:
        encoder: Factory of an encoder, ``"package.module:factory"``; see `learning.pyramid`.
        widths: Channels of its four stages, at strides 4, 8, 16 and 32.
        blocks: Blocks per stage.
        decoder: Channels of the decoder at strides 16, 8, 4, 2 and 1.
    """

    encoder: str = "esccs_edge.training.learning.pyramid:convolutional"
    widths: tuple[int, int, int, int] = (16, 32, 48, 64)
    blocks: tuple[int, int, int, int] = (1, 1, 1, 1)
    decoder: tuple[int, int, int, int, int] = (48, 32, 24, 16, 8)

    def __post_init__(self) -> None:
        require(min(self.widths) >= 1, "widths", self.widths, "1 or more at each stage")
        require(min(self.blocks) >= 1, "blocks", self.blocks, "1 or more at each stage")
        require(min(self.decoder) >= 1, "decoder", self.decoder, "1 or more at each stride")


@dataclass(frozen=True)
class MapTeacherOptions:
    """The teacher, which sees the clear optical image, SAR and the labels."""

    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=30, batch_size=16))


@dataclass(frozen=True)
class MapStudentOptions:
    """The deliverable, and what of CloudSeg and of ours it learns by.

    Attributes:
        removal_weight: Weight of cloud removal; 0 leaves its decoder out.
        feature_weight: Weight of the teacher's decoder features, imitated at clear pixels.
        answer_weight: Weight of the teacher's soft answers, imitated at every pixel.
        answer_temperature: Softens both sides of these answers.
        gate: ``"weighing"``: optical is fused as far as its share says;
            ``"reported"``: it is an answer beside the method of the paper and changes nothing else.
        gate_weight: Weight of its supervision by the cloud mask.
        drop_share: Share of training samples that lose one modality, and of the others that lose it
            in a part.
        schedule: How long and how fast.
    """

    removal_weight: float = 0.0
    feature_weight: float = 0.0
    answer_weight: float = 1.0
    answer_temperature: float = 2.0
    gate: Literal["weighing", "reported"] = "weighing"
    gate_weight: float = 0.3
    drop_share: float = 0.2
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=40, batch_size=16))

    def __post_init__(self) -> None:
        for name in ("removal_weight", "feature_weight", "answer_weight", "gate_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(self.answer_temperature > 0, "answer_temperature", self.answer_temperature,
                "above 0")  # fmt: skip
        require(0 <= self.drop_share <= 1, "drop_share", self.drop_share, "a share from 0 to 1")


@dataclass(frozen=True)
class SegmentationOptions(RunOptions):
    """A run of semantic segmentation.

    Attributes:
        classes: Class names in the order of the numbers in the label maps, where the data set
            does not name them; None: it does.
        crop: Height and width of a sample in pixels; images are cut to it.
        turns: Turn and mirror training samples, and change their light a little.
        cloud_mask: Where the cloud mask comes from: the ``"simulator"``, the ``"files"`` of the
            data set, or an ``"estimate"`` from the pixels of the cloudy image.
        clouds: What the student sees instead of a clear sky.
        validate_every: Epochs between looks at the validation split; a stage then returns the
            network that was best there. 0: never, it returns the averaged weights of its end.
        network: Of teacher and student.
        teacher: The teacher.
        student: The student.
    """

    task: str = "semantic-segmentation"
    classes: tuple[str, ...] | None = None
    crop: int = 128
    turns: bool = True
    cloud_mask: Literal["simulator", "files", "estimate"] = "simulator"
    clouds: CloudOptions = field(default_factory=CloudOptions)
    validate_every: int = 0
    network: PyramidOptions = field(default_factory=PyramidOptions)
    teacher: MapTeacherOptions = field(default_factory=MapTeacherOptions)
    student: MapStudentOptions = field(default_factory=MapStudentOptions)

    def __post_init__(self) -> None:
        require(self.validate_every >= 0, "validate_every", self.validate_every, "0 or more")
        fits = self.crop > 0 and self.crop % COARSEST_STRIDE == 0
        require(fits, "crop", self.crop, f"a multiple of {COARSEST_STRIDE}")
        simulated = self.cloud_mask == "simulator"
        expected = "'files' or 'estimate' where clouds.simulate is false"
        require(self.clouds.simulate or not simulated, "cloud_mask", self.cloud_mask, expected)
        expected = "'simulator' or 'estimate' where clouds.simulate is true"
        require(not self.clouds.simulate or self.cloud_mask != "files", "cloud_mask",
                self.cloud_mask, expected)  # fmt: skip

    def without_paths(self) -> dict[str, Any]:
        """Return the plain values; of the folder of textures only its name."""
        found = super().without_paths()
        found["clouds"]["textures"] = Path(self.clouds.textures).name
        return found
