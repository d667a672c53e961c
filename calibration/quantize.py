"""INT8 for a student: measure ranges, try the methods, keep the best, say what it cost.

Everything is decided before anything is written: a refusal leaves the bundle as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from esccs_edge.bundle import Bundle, PathLike
from esccs_edge.errors import ArtifactError, InputError
from esccs_edge.pairs import PairIndex, read_index

from .batches import Batch, load_batches
from .collect import collect_histograms
from .measure import FloatArray, LabelArray, accuracy, loss_in_points, run_models, tensor_errors
from .observers import AMAX_METHODS, Histogram
from .recipe import Recipe, insert_qdq, tensorrt_recipe
from .report import Measured, calibration_report, quantization_summary, report_as_json
from .sampler import PairList, draw_pairs, list_as_csv
from .sanity import DataCheck

FLOAT_ONNX = "student.onnx"
INT8_ONNX = "student.int8.onnx"
REPORT_JSON = "calibration.json"
LIST_CSV = "calibration-pairs.csv"
#: Points of balanced accuracy that INT8 may cost; published ResNet figures lose 0.1 to 0.5.
MAX_ACCURACY_LOSS = 1.0
#: Methods whose accuracies differ by less, in standard errors of the paired difference, are equal.
TIE_STANDARD_ERRORS = 2.0
#: Pairs of the held-out part on which the error of each tensor is measured.
TENSOR_ERROR_PAIRS = 64


@dataclass(frozen=True)
class Candidate:
    """One way to quantise and what it answered on the held-out pairs."""

    method: str
    recipe: Recipe
    float_stems: bool
    model: onnx.ModelProto
    logits: FloatArray


def quantize_student(
    bundle: Bundle,
    index_path: PathLike,
    *,
    seed: int = 0,
    methods: Sequence[str] = tuple(AMAX_METHODS),
    calibration_pairs: int = 256,
    held_out_pairs: int = 512,
    max_accuracy_loss: float = MAX_ACCURACY_LOSS,
) -> Bundle:
    """Add `student.int8.onnx`, its report and its list of pairs, and make it the bundle's model.

    Ranges are measured on one part of the pairs; on the other, disjoint part each method is
    judged by balanced accuracy. Among those that the pairs cannot tell from the most accurate one,
    the smallest squared error of the logits decides, since a flipped answer can be luck. If the
    best loses more than allowed, all are tried again with the two first convolutions left float.

    Args:
        bundle: An exported bundle, with `student.onnx`.
        index_path: ``index.csv`` of labelled pairs like those the model will see.
        seed: Of the drawing of pairs.
        methods: Among ``"max"``, ``"entropy"``, ``"percentile"``.
        calibration_pairs: Pairs that measure ranges; fewer if the index is small.
        held_out_pairs: Pairs that judge.
        max_accuracy_loss: Allowed loss of balanced accuracy in points. A loss within one standard
            error above it is not refused, since a small set cannot tell.

    Raises:
        InputError: The data is empty, of one class, constant, noise, wrongly labelled, or does
            not fit the model.
        ArtifactError: INT8 costs more than allowed, or `student.onnx` is missing or altered.
    """
    _check_methods(methods)
    content = bundle.read(FLOAT_ONNX)
    model = onnx.load_from_string(content)
    index = read_index(index_path, bundle.manifest.classes)
    pairs = draw_pairs(
        index, seed=seed, calibration_pairs=calibration_pairs, held_out_pairs=held_out_pairs
    )
    histograms, checks = _measure_ranges(bundle, model, index, pairs)

    def held_out() -> Iterator[Batch]:
        return load_batches(index, bundle.manifest, pairs.held_out)

    for float_stems in (False, True):
        recipe = tensorrt_recipe(model, float_stems=float_stems)
        tried, exact, labels = _try_methods(model, content, recipe, methods, histograms, held_out())
        best = _best(tried, exact, labels)
        loss, error = loss_in_points(exact, best.logits, labels)
        if loss - error <= max_accuracy_loss:
            break
    else:
        raise _too_lossy(loss, error, best.method, max_accuracy_loss, len(labels))
    few = load_batches(index, bundle.manifest, pairs.held_out[:TENSOR_ERROR_PAIRS])
    measured = Measured(
        pairs=pairs,
        checks=checks,
        exact=exact,
        labels=labels,
        logits={candidate.method: candidate.logits for candidate in tried},
        chosen=best.method,
        float_stems=best.float_stems,
        recipe=best.recipe,
        tensors=tensor_errors(model, best.model, best.recipe, few),
    )
    return _write(bundle, index, best, measured)


def _check_methods(methods: Sequence[str]) -> None:
    if not methods or set(methods) - set(AMAX_METHODS):
        raise InputError(
            f"calibration methods are {list(methods)}, expected one or more of {list(AMAX_METHODS)}"
        )


def _measure_ranges(
    bundle: Bundle, model: onnx.ModelProto, index: PairIndex, pairs: PairList
) -> tuple[dict[str, Histogram], dict[str, float]]:
    """One pass over the calibration pairs: is the data real, and how large does each tensor get."""
    check = DataCheck()

    def watched() -> Iterator[dict[str, FloatArray]]:
        for batch in load_batches(index, bundle.manifest, pairs.calibration):
            check.add(batch)
            yield batch.inputs

    recipe = tensorrt_recipe(model)  # the one with float stems observes a part of its tensors
    histograms = collect_histograms(model, recipe.activations, watched())
    return histograms, check.require_real(pairs.seed)


def _try_methods(
    model: onnx.ModelProto,
    content: bytes,
    recipe: Recipe,
    methods: Sequence[str],
    histograms: dict[str, Histogram],
    batches: Iterator[Batch],
) -> tuple[list[Candidate], FloatArray, LabelArray]:
    quantized = {}
    for method in methods:
        amax = {name: AMAX_METHODS[method](histograms[name]) for name in recipe.activations}
        quantized[method] = insert_qdq(model, recipe, amax)
    runnable = {method: result.SerializeToString() for method, result in quantized.items()}
    logits, labels = run_models({"": content, **runnable}, batches)
    stems_are_float = "optical" not in recipe.activations
    tried = [
        Candidate(method, recipe, stems_are_float, result, logits[method])
        for method, result in quantized.items()
    ]
    return tried, logits[""], labels


def _best(tried: Sequence[Candidate], exact: FloatArray, labels: LabelArray) -> Candidate:
    top = max(tried, key=lambda candidate: accuracy(candidate.logits, labels).balanced_accuracy)

    def is_equal(candidate: Candidate) -> bool:
        loss, error = loss_in_points(top.logits, candidate.logits, labels)
        return loss <= TIE_STANDARD_ERRORS * error

    equal = [candidate for candidate in tried if is_equal(candidate)]
    return min(equal, key=lambda candidate: float(np.mean((candidate.logits - exact) ** 2)))


def _too_lossy(loss: float, error: float, method: str, allowed: float, pairs: int) -> ArtifactError:
    return ArtifactError(
        f"INT8 loses {loss:.2f} (+- {error:.2f}) points of balanced accuracy on {pairs} held-out "
        f"pairs with its best method {method!r}, expected at most {allowed:g}",
        hint="Use more calibration pairs that look like the real input, keep the float model, "
        "or allow a larger loss",
    )


def _write(bundle: Bundle, index: PairIndex, best: Candidate, measured: Measured) -> Bundle:
    onnx.helper.set_model_props(
        best.model,
        {p.key: p.value for p in best.model.metadata_props}
        | {"quantization": f"int8 Q/DQ, symmetric, {best.method}"},
    )
    content = best.model.SerializeToString(deterministic=True)
    pair_list = list_as_csv(index, measured.pairs).encode()
    source = bundle.manifest.files[FLOAT_ONNX]
    report = calibration_report(
        measured,
        list_sha256=hashlib.sha256(pair_list).hexdigest(),
        source_sha256=source.sha256,
        file_bytes={FLOAT_ONNX: source.bytes, INT8_ONNX: len(content)},
    )
    return bundle.add(
        {INT8_ONNX: content, REPORT_JSON: report_as_json(report).encode(), LIST_CSV: pair_list},
        model=INT8_ONNX,
        quantization=quantization_summary(report),
    )
