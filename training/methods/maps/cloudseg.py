"""CloudSeg, what is left of it without its parts, its teacher, and ours."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...segmentation_options import MapStudentOptions, SegmentationOptions
from ...stages.semantic_segmentation.teacher import shown_clear
from ...stages.stage import Batch
from .method import MapMethod, MapPredictor, MapShared
from .told import AS_PUBLISHED, EQUIPPED, PLAIN, MapGifts


def _teacher(shared: MapShared) -> MapPredictor:
    def predict(batch: Batch) -> Tensor:
        logits: Tensor = shared.teacher(batch["optical"], batch["sar"], shown_clear(batch)).logits
        return logits

    return predict


def student(shared: MapShared, options: SegmentationOptions, name: str) -> MapPredictor:
    """Train a student and return how to ask it."""
    net = shared.run.with_options(options).train_student(shared.teacher, name)

    def predict(batch: Batch) -> Tensor:
        logits: Tensor = net(batch["optical"], batch["sar"], batch["availability"])[0]
        return logits

    return predict


def _paper(
    name: str, adds: str, removal: float, features: float, gifts: MapGifts = AS_PUBLISHED
) -> MapMethod:
    def predictor(shared: MapShared) -> MapPredictor:
        options = shared.run.options
        part: MapStudentOptions = replace(
            options.student, removal_weight=removal, feature_weight=features, answer_weight=0.0,
            gate="reported",
            drop_share=options.student.drop_share if gifts.drops else 0.0,
        )  # fmt: skip
        return student(shared, options.evolve(student=part), name)

    return MapMethod(predictor, adds, gifts)


CLEAR_TEACHER = MapMethod(
    _teacher, "the clear teacher, asked about cloudy images and SAR",
    MapGifts(clear_images=True, trained=False),
)  # fmt: skip
CLOUDSEG = _paper("cloudseg", "removal and features of the teacher", 1.0, 1.0)
NO_REMOVAL = _paper("cloudseg-no-removal", "features of the teacher alone", 0.0, 1.0)
NO_DISTILLATION = _paper("cloudseg-no-distillation", "removal alone", 1.0, 0.0)
NEITHER = _paper("cloudseg-neither", "its network, and labels alone", 0.0, 0.0, PLAIN)
CLOUDSEG_EQUIPPED = _paper(
    "cloudseg-equipped", "CloudSeg, which learns to do without a modality too", 1.0, 1.0, EQUIPPED
)
OURS = MapMethod(
    lambda shared: student(shared, shared.run.options, "student"),
    "its network with the options of the run: gate, answers of the teacher at every pixel",
    EQUIPPED,
)
