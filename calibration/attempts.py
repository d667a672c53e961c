"""Ways to quantize one student, run on the same held-out pairs, and which of them is best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from esccs_edge.contracts.bundle_files import STUDENT_ONNX
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.task import Measure
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.types import Labels, Progress

from .accuracy import Answers, Classes, accuracy, loss_in_points, run_models
from .batches import Batch
from .budget import Cost
from .observers import AMAX_METHODS, Histogram
from .recipe import Recipe, insert_qdq, tensorrt_recipe
from .sampler import ChosenPair, PairList

#: Methods whose accuracies differ by less, in standard errors of the paired difference, are equal.
TIE_STANDARD_ERRORS = 2.0
#: Method of a model whose weights and scales were learned.
FINETUNE = "finetune"


@dataclass(frozen=True)
class QuantizedModel:
    """The student quantized in one way, and its answers on the held-out pairs.

    Attributes:
        method: Rule that set the ranges, or `FINETUNE`.
        recipe: What became INT8.
        float_stems: Whether the first convolutions stayed float.
        model: The Q/DQ graph.
        answers: What it answers.
        learned: How it was fine-tuned; None for calibration alone.
    """

    method: str
    recipe: Recipe
    float_stems: bool
    model: onnx.ModelProto
    answers: Answers
    learned: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Attempt:
    """The models of one recipe, the best of them and what it costs."""

    tried: Sequence[QuantizedModel]
    best: QuantizedModel
    cost: Cost


@dataclass(frozen=True)
class Trial:
    """One student, the pairs that measure and teach, and those that judge.

    Attributes:
        model: The float student.
        manifest: Its contract.
        pairs: Both parts of the pairs.
        load: Reads pairs in the order given.
        histograms: Magnitudes of each tensor on the calibration pairs.
        exact: Classes ``(N, ...)`` that the float model gives the held-out pairs.
        labels: Their true classes ``(N, ...)``.
    """

    model: onnx.ModelProto
    manifest: Manifest
    pairs: PairList
    load: Callable[[Sequence[ChosenPair]], Iterable[Batch]]
    histograms: Mapping[str, Histogram]
    exact: Classes
    labels: Labels

    @property
    def measure(self) -> Measure:
        """What the answers are judged by."""
        return task_named(self.manifest.task).measure

    def calibrated(self, methods: Sequence[str], *, float_stems: bool) -> Attempt:
        """Quantize by each method."""
        recipe = tensorrt_recipe(self.model, float_stems=float_stems)
        quantized = {}
        for method in methods:
            amax = {n: AMAX_METHODS[method](self.histograms[n]) for n in recipe.activations}
            quantized[method] = insert_qdq(self.model, recipe, amax)
        answers = self._answers(quantized)
        tried = [
            QuantizedModel(method, recipe, float_stems, result, answers[method])
            for method, result in quantized.items()
        ]
        return self._attempt(tried, best_of(tried, self.labels, self.measure))

    def finetuned(self, attempt: Attempt, *, epochs: int, progress: Progress) -> Attempt:
        """Teach the best of a calibration that cost too much."""
        from .finetune import finetune

        start = attempt.best
        learned = finetune(
            self.model, start.model, start.recipe, self.pairs.calibration, self.load,
            outputs=self.manifest.outputs, epochs=epochs, seed=self.pairs.seed, progress=progress,
        )  # fmt: skip
        tuned = replace(
            start,
            method=FINETUNE,
            model=learned.model,
            answers=self._answers({FINETUNE: learned.model})[FINETUNE],
            learned={"start": start.method, **learned.facts},
        )
        return self._attempt([*attempt.tried, tuned], tuned)

    def _answers(self, models: Mapping[str, onnx.ModelProto]) -> dict[str, Answers]:
        all_models = {STUDENT_ONNX: self.model, **models}
        runnable = {name: model.SerializeToString() for name, model in all_models.items()}
        return run_models(runnable, self.load(self.pairs.held_out), self.manifest.logits)[0]

    def _attempt(self, tried: Sequence[QuantizedModel], best: QuantizedModel) -> Attempt:
        return Attempt(
            tried, best, Cost.of(self.exact, best.answers.classes, self.labels, self.measure)
        )


def best_of(
    tried: Sequence[QuantizedModel], labels: Labels, measure: Measure = "balanced_accuracy"
) -> QuantizedModel:
    """Return the most accurate; of those as good but for chance, the one with closest logits."""
    top = max(tried, key=lambda model: getattr(accuracy(model.answers.classes, labels), measure))

    def is_equal(model: QuantizedModel) -> bool:
        loss, error = loss_in_points(top.answers.classes, model.answers.classes, labels, measure)
        return loss <= TIE_STANDARD_ERRORS * error

    equal = [model for model in tried if is_equal(model)]
    return min(equal, key=lambda model: model.answers.logit_mse)
