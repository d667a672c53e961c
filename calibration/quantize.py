"""INT8 for a student: measure ranges, try the methods, keep the best, say what it cost.

Everything is decided before anything is written: a refusal leaves the bundle as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from importlib import import_module

import numpy as np
import onnx

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import (
    CALIBRATION_PAIRS,
    CALIBRATION_REPORT,
    INT8_ONNX,
    STUDENT_ONNX,
)
from esccs_edge.contracts.onnx_file import read_model
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.types import Floats, PathLike, Progress
from esccs_edge.errors import ArtifactError, InputError
from esccs_edge.rasters.pair_index import PairIndex, read_index

from .accuracy import run_models, tensor_errors
from .attempts import Attempt, QuantizedModel, Trial
from .batches import Batch, load_batches
from .budget import BUDGETS, Budget
from .collect import collect_histograms
from .observers import AMAX_METHODS, Histogram
from .recipe import tensorrt_recipe
from .report import CalibrationResult, calibration_report, quantization_summary, report_as_json
from .rows import require_usable
from .sampler import ChosenPair, draw_pairs, list_as_csv
from .sanity import DataCheck, agreement_p_value

#: Pairs of the held-out part on which the error of each tensor is measured.
TENSOR_ERROR_PAIRS = 64


def quantize_student(
    bundle: Bundle,
    index_path: PathLike,
    *,
    seed: int = 0,
    methods: Sequence[str] = tuple(AMAX_METHODS),
    calibration_pairs: int = 256,
    held_out_pairs: int = 512,
    budget: Budget | None = None,
    finetune_epochs: int = 0,
    progress: Progress = lambda done, total: None,
) -> Bundle:
    """Add `student.int8.onnx`, its report and its list of pairs, and make it the bundle's model.

    Ranges are measured on one part of the pairs; on the other, disjoint part each method is
    judged by the measure of the task. Among those that differ from the best one by no more than
    chance, the smallest squared error of the logits decides, since a flipped answer can be luck. If
    the best costs more than the budget, all are tried again with the first convolutions left float;
    then, if wanted, each of the two is fine-tuned. The first within the budget is kept.

    Args:
        bundle: An exported bundle, with `student.onnx`.
        index_path: ``index.csv`` of labeled pairs like those the model will see.
        seed: Of the drawing of pairs, and of their order in fine-tuning.
        methods: Among ``"max"``, ``"entropy"``, ``"percentile"``.
        calibration_pairs: Pairs that measure ranges and teach; fewer if the index is small.
        held_out_pairs: Pairs that judge.
        budget: What INT8 may cost; None is what is usual for the task, `BUDGETS`.
        finetune_epochs: Passes over the calibration pairs where calibration alone costs more than
            the budget; 0 refuses then.
        progress: Called with passes of fine-tuning done and in all.

    Raises:
        InputError: The data is empty, of one class, constant, noise, wrongly labeled, or does
            not fit the model.
        ArtifactError: INT8 costs more than allowed, `student.onnx` is missing or altered, or the
            bundle is the one in the package.
        MissingDependencyError: Fine-tuning is wanted and torch is not installed.
    """
    _check_options(methods, finetune_epochs)
    bundle.require_own()
    model = onnx.load_from_string(read_model(bundle, STUDENT_ONNX))
    manifest = bundle.manifest
    budget = budget or BUDGETS[task_named(manifest.task).measure]
    index = read_index(index_path, manifest.classes, tuple(manifest.modalities))
    pairs = draw_pairs(
        index,
        manifest,
        seed=seed,
        calibration_pairs=calibration_pairs,
        held_out_pairs=held_out_pairs,
    )

    drawn = (*pairs.calibration, *pairs.held_out)
    require_usable(index, manifest, [(pair.row, pair.modalities) for pair in drawn])

    def load(chosen: Sequence[ChosenPair]) -> Iterator[Batch]:
        return load_batches(index, manifest, chosen)

    histograms, check = _measure_ranges(model, load(pairs.calibration))
    exact, labels = run_models(
        {STUDENT_ONNX: model.SerializeToString()}, load(pairs.held_out), manifest.logits
    )
    agreement = agreement_p_value(exact[STUDENT_ONNX].classes.astype(np.int64), labels, seed)
    checks = check.require_real(seed, agreement)
    trial = Trial(model, manifest, pairs, load, histograms, exact[STUDENT_ONNX].classes, labels)
    attempts: list[Attempt] = []
    for attempt in _attempts(trial, methods, finetune_epochs, progress):
        attempts.append(attempt)
        if budget.allows(attempt.cost):
            break
    else:
        raise _too_costly(attempts, budget)
    best = attempt.best
    few = load(pairs.held_out[:TENSOR_ERROR_PAIRS])
    result = CalibrationResult(
        pairs=pairs,
        checks=checks,
        exact=trial.exact,
        labels=labels,
        attempts=attempts,
        budget=budget,
        finetune_wanted=finetune_epochs > 0,
        tensors=tensor_errors(model, best.model, best.recipe, few),
    )
    return _write(bundle, index, best, result)


def _check_options(methods: Sequence[str], finetune_epochs: int) -> None:
    if not methods or set(methods) - set(AMAX_METHODS):
        raise InputError(
            f"calibration methods are {list(methods)}, expected one or more of {list(AMAX_METHODS)}"
        )
    if finetune_epochs < 0:
        raise InputError(f"fine-tuning has {finetune_epochs} epochs, expected 0 or more")
    if finetune_epochs:
        # A missing torch is reported before any work, not after.
        import_module(f"{__package__}.finetune")


def _measure_ranges(
    model: onnx.ModelProto, batches: Iterator[Batch]
) -> tuple[dict[str, Histogram], DataCheck]:
    """One pass over the calibration pairs: how large each tensor gets, and what pixels are like."""
    check = DataCheck()

    def watched() -> Iterator[dict[str, Floats]]:
        for batch in batches:
            check.add(batch)
            yield batch.inputs

    recipe = tensorrt_recipe(model)  # the one with float stems observes a part of its tensors
    histograms = collect_histograms(model, recipe.activations, watched())
    return histograms, check


def _attempts(
    trial: Trial, methods: Sequence[str], epochs: int, progress: Progress
) -> Iterator[Attempt]:
    """Yield ways to quantize, cheapest first; the next one is made when it is asked for."""
    calibrated = []
    for float_stems in (False, True):
        calibrated.append(trial.calibrated(methods, float_stems=float_stems))
        yield calibrated[-1]
    if epochs:
        for attempt in calibrated:
            yield trial.finetuned(attempt, epochs=epochs, progress=progress)


def _too_costly(attempts: Sequence[Attempt], budget: Budget) -> ArtifactError:
    found = "; ".join(
        f"{attempt.best.method!r}{' with float stems' if attempt.best.float_stems else ''} "
        f"{attempt.cost}" for attempt in attempts
    )  # fmt: skip
    tuned = attempts[-1].best.learned is not None
    return ArtifactError(
        f"INT8 costs too much: {found}; expected {budget}",
        hint="Use more calibration pairs that look like the real input, "
        + ("more epochs, " if tuned else "fine-tune (--finetune), ")
        + "keep the float model, or allow a larger loss",
    )


def _write(
    bundle: Bundle, index: PairIndex, best: QuantizedModel, result: CalibrationResult
) -> Bundle:
    onnx.helper.set_model_props(
        best.model,
        {p.key: p.value for p in best.model.metadata_props}
        | {"quantization": f"int8 Q/DQ, symmetric, {best.method}"},
    )
    content = best.model.SerializeToString(deterministic=True)
    pair_list = list_as_csv(index, bundle.manifest, result.pairs).encode()
    source = bundle.manifest.files[STUDENT_ONNX]
    report = calibration_report(
        result,
        list_sha256=hashlib.sha256(pair_list).hexdigest(),
        source_sha256=source.sha256,
        file_bytes={STUDENT_ONNX: source.bytes, INT8_ONNX: len(content)},
    )
    return bundle.add(
        {
            INT8_ONNX: content,
            CALIBRATION_REPORT: report_as_json(report).encode(),
            CALIBRATION_PAIRS: pair_list,
        },
        model=INT8_ONNX,
        quantization=quantization_summary(report),
    )
