"""Ways to quantize one student, run on the same held-out pairs, and which of them is best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from .batches import Batch
from .budget import Cost
from .measure import FloatArray, LabelArray, accuracy, loss_in_points, run_models
from .observers import AMAX_METHODS, Histogram
from .recipe import Recipe, insert_qdq, tensorrt_recipe
from .sampler import ChosenPair, PairList

#: Methods whose accuracies differ by less, in standard errors of the paired difference, are equal.
TIE_STANDARD_ERRORS = 2.0
#: Method of a candidate whose weights and scales were learned.
FINETUNE = "finetune"


@dataclass(frozen=True)
class Candidate:
    """One way to quantize and what it answered on the held-out pairs.

    Attributes:
        method: Rule that set the ranges, or `FINETUNE`.
        recipe: What became INT8.
        float_stems: Whether the first convolutions stayed float.
        model: The Q/DQ graph.
        logits: Its answers ``(N, K)``.
        learned: How it was fine-tuned; None for calibration alone.
    """

    method: str
    recipe: Recipe
    float_stems: bool
    model: onnx.ModelProto
    logits: FloatArray
    learned: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Attempt:
    """Candidates of one recipe, the best of them and what it costs."""

    tried: Sequence[Candidate]
    best: Candidate
    cost: Cost


@dataclass(frozen=True)
class Trial:
    """One student, the pairs that measure and teach, and those that judge.

    Attributes:
        model: The float student.
        pairs: Both parts of the pairs.
        load: Reads pairs in the order given.
        histograms: Magnitudes of each tensor on the calibration pairs.
        exact: Float logits ``(N, K)`` on the held-out pairs.
        labels: Their classes ``(N,)``.
    """

    model: onnx.ModelProto
    pairs: PairList
    load: Callable[[Sequence[ChosenPair]], Iterable[Batch]]
    histograms: Mapping[str, Histogram]
    exact: FloatArray
    labels: LabelArray

    def calibrated(self, methods: Sequence[str], *, float_stems: bool) -> Attempt:
        """Quantize by each method."""
        recipe = tensorrt_recipe(self.model, float_stems=float_stems)
        quantized = {}
        for method in methods:
            amax = {n: AMAX_METHODS[method](self.histograms[n]) for n in recipe.activations}
            quantized[method] = insert_qdq(self.model, recipe, amax)
        logits = self._answers(quantized)
        tried = [
            Candidate(method, recipe, float_stems, result, logits[method])
            for method, result in quantized.items()
        ]
        return self._attempt(tried, best_of(tried, self.exact, self.labels))

    def finetuned(
        self, attempt: Attempt, *, epochs: int, progress: Callable[[int, int], None]
    ) -> Attempt:
        """Teach the best of a calibration that cost too much."""
        from .finetune import finetune

        start = attempt.best
        learned = finetune(
            self.model, start.model, start.recipe, self.pairs.calibration, self.load,
            epochs=epochs, seed=self.pairs.seed, progress=progress,
        )  # fmt: skip
        tuned = replace(
            start,
            method=FINETUNE,
            model=learned.model,
            logits=self._answers({FINETUNE: learned.model})[FINETUNE],
            learned={"start": start.method, **learned.facts},
        )
        return self._attempt([*attempt.tried, tuned], tuned)

    def _answers(self, models: Mapping[str, onnx.ModelProto]) -> dict[str, FloatArray]:
        runnable = {name: model.SerializeToString() for name, model in models.items()}
        return run_models(runnable, self.load(self.pairs.held_out))[0]

    def _attempt(self, tried: Sequence[Candidate], best: Candidate) -> Attempt:
        return Attempt(tried, best, Cost.of(self.exact, best.logits, self.labels))


def best_of(tried: Sequence[Candidate], exact: FloatArray, labels: LabelArray) -> Candidate:
    """Return the most accurate; among those the pairs cannot tell from it, the closest logits."""
    top = max(tried, key=lambda candidate: accuracy(candidate.logits, labels).balanced_accuracy)

    def is_equal(candidate: Candidate) -> bool:
        loss, error = loss_in_points(top.logits, candidate.logits, labels)
        return loss <= TIE_STANDARD_ERRORS * error

    equal = [candidate for candidate in tried if is_equal(candidate)]
    return min(equal, key=lambda candidate: float(np.mean((candidate.logits - exact) ** 2)))
