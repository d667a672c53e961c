"""Which precision should this machine run? Measure float32, float16 and INT8 here, then pick.

INT8 is sometimes slower than float16, and sometimes wrong, and which of them depends on the
device. The answer is a copy of the bundle whose model is the picked one, with the report in it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from esccs_edge.backends.base import Backend
from esccs_edge.backends.trt.library import FlavorName
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MEASURED, MODEL_FILES, GraphPrecision
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.values import Sample
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.errors import BackendError, InputError, Remedy
from esccs_edge.pixels.checks import checked_sample
from esccs_edge.power import PowerMeter, find_meter
from esccs_edge.rasters.pair_index import PairIndex, read_index
from esccs_edge.system.sealed_cache import SealedCache

from .choice import Choice, MeasuredPrecision, Prefer, pick
from .measure import measure_speed
from .parity import BACKEND_FP32_TOLERANCE, REDUCED_TOLERANCE, compare_outputs, run_backend
from .reference import read_reference

REPORT_NAME = MEASURED
#: One point of accuracy.
DEFAULT_BUDGET = 0.01


def choose_precision(
    bundle: Bundle,
    out: str | os.PathLike[str],
    *,
    flavor: FlavorName | None = None,
    prefer: Prefer = "latency",
    budget: float = DEFAULT_BUDGET,
    index: str | os.PathLike[str] | None = None,
    seconds: float = 2.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Bundle, Choice]:
    """Measure every precision on this machine's GPU and write a bundle that runs the best one.

    Args:
        bundle: Exported bundle; INT8 takes part if it was calibrated.
        out: Folder of the new bundle; must not exist or be empty.
        flavor: TensorRT library; None is ``tensorrt`` where installed, else ``rtx``.
        prefer: ``"latency"`` is the median of one sample, ``"throughput"`` full batches.
        budget: Largest loss against float32: of accuracy on ``index``, or without one of label
            agreement with the trained network on ``reference.npz``.
        index: ``index.csv`` with a class for each sample; its test split is used.
        seconds: Time spent on each figure.
        progress: Called with precisions done and precisions in all.

    Returns:
        The new bundle, which also holds the report as ``choice.json``, and the choice.

    Raises:
        InputError: An option out of range, or ``out`` is in use.
        ArtifactError: A file of the bundle is missing or altered.
        BackendError: There is no GPU, or no precision can be used.
        MissingDependencyError: TensorRT or a CUDA binding is not installed.
    """
    folder = Path(out)
    _check_options(folder, prefer, budget)
    if problem := probe_driver().problem:
        raise BackendError(
            f"choosing a precision measures on the GPU of this machine, but {problem}",
            hint="Run it on the target; without a GPU, build one engine with --flavor rtx",
        )
    labeled = [] if index is None else _labeled_samples(bundle, index)
    meter = find_meter()
    with tempfile.TemporaryDirectory() as scratch:
        complete = _with_float16(bundle, Path(scratch) / "bundle")
        cache = SealedCache(Path(scratch) / "engines")
        machine: dict[str, Any] = {}
        measured = []
        for done, precision in enumerate(get_args(GraphPrecision)):
            progress(done, len(get_args(GraphPrecision)))
            load = partial(_open, complete, precision, flavor, cache)
            found = _try(load, complete, precision, labeled, seconds, meter, machine)
            measured.append(found)
        picked = pick(measured, budget=budget, prefer=prefer)
        sensor = "" if meter is None else meter.name
        choice = Choice(
            picked.precision, prefer, budget, tuple(measured), machine, sensor
        )  # fmt: skip
        made = _write(complete, folder, choice)
    # Opened once more, so that its engine waits in the user's cache.
    _open(made, picked.precision, flavor, None).close()
    return made, choice


def _check_options(folder: Path, prefer: str, budget: float) -> None:
    if prefer not in get_args(Prefer):
        raise InputError(f"prefer is {prefer!r}, expected one of {', '.join(get_args(Prefer))}")
    if not 0 <= budget <= 1:
        raise InputError(f"budget is {budget}, expected a share from 0 to 1")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is in use, expected a new folder or an empty one")


def _with_float16(bundle: Bundle, folder: Path) -> Bundle:
    """Copy a bundle; a float16 model is made from the float32 one where onnx is installed."""
    copy = Bundle.create(
        folder, bundle.manifest, {name: bundle.read(name) for name in bundle.manifest.files}
    )
    files = copy.manifest.files
    if MODEL_FILES["fp16"] in files or MODEL_FILES["fp32"] not in files:
        return copy
    try:
        from .to_fp16 import add_float16
    except ModuleNotFoundError:
        return copy  # its row says that the model is missing
    return add_float16(copy)


def _labeled_samples(bundle: Bundle, index: str | os.PathLike[str]) -> list[tuple[Sample, str]]:
    manifest = bundle.manifest
    if task_named(manifest.task).target != "class":
        raise InputError(
            f"{index} was given to measure accuracy, but {manifest.task} answers no single class",
            hint="Leave the index out; agreement with the trained network is then held to budget",
        )
    rows = read_index(index, manifest.classes, tuple(manifest.modalities))
    chosen = [
        (_sample(rows, i, manifest), row.label)
        for i, row in enumerate(rows.rows)
        if row.split == "test" and row.label is not None
    ]
    if not chosen:
        raise InputError(f"{index} has no labeled sample in its test split, expected at least one")
    return chosen


def _open(
    bundle: Bundle, precision: GraphPrecision, flavor: FlavorName | None, cache: SealedCache | None
) -> Backend:
    from esccs_edge.backends.trt.backend import TrtBackend

    manifest = bundle.manifest
    return TrtBackend(
        bundle,
        manifest,
        max_batch=manifest.batch.max,
        precision=precision,
        flavor=flavor,
        cache=cache,
    )


def _try(
    load: Callable[[], Backend],
    bundle: Bundle,
    precision: GraphPrecision,
    labeled: Sequence[tuple[Sample, str]],
    seconds: float,
    meter: PowerMeter | None,
    machine: dict[str, Any],
) -> MeasuredPrecision:
    """Measure one precision; what fails for this one only becomes its problem."""
    if MODEL_FILES[precision] not in bundle.manifest.files:
        return MeasuredPrecision(precision, f"the bundle has no {MODEL_FILES[precision]}")
    try:
        backend = load()
    except BackendError as error:
        return MeasuredPrecision(precision, error.message)
    try:
        machine.update(
            {k: v for k, v in backend.describe().items() if k not in ("model", "free_device_bytes")}
        )
        return _measured(backend, bundle, precision, labeled, seconds, meter)
    except BackendError as error:
        if error.action is Remedy.RESTART:
            raise
        return MeasuredPrecision(precision, error.message)
    finally:
        backend.close()


def _measured(
    backend: Backend,
    bundle: Bundle,
    precision: GraphPrecision,
    labeled: Sequence[tuple[Sample, str]],
    seconds: float,
    meter: PowerMeter | None,
) -> MeasuredPrecision:
    manifest = bundle.manifest
    inputs, expected = read_reference(bundle)
    found = run_backend(backend, inputs, manifest)
    tolerance = BACKEND_FP32_TOLERANCE if precision == "fp32" else REDUCED_TOLERANCE
    row = compare_outputs(precision, found, inputs, expected, tolerance, manifest)
    return MeasuredPrecision(
        precision,
        row.problem,
        row.label_agreement,
        row.worst.get(manifest.logits),
        _accuracy(backend, labeled, manifest),
        measure_speed(backend, manifest, seconds=seconds, meter=meter),
    )


def _sample(index: PairIndex, row: int, manifest: Manifest) -> Sample:
    return checked_sample(index.load(row, manifest.modalities), manifest)


def _accuracy(
    backend: Backend, labeled: Sequence[tuple[Sample, str]], manifest: Manifest
) -> float | None:
    if not labeled:
        return None
    lane = backend.open_lane()
    right = 0
    try:
        for start in range(0, len(labeled), backend.max_batch):
            part = labeled[start : start + backend.max_batch]
            found = lane.answer([sample for sample, _ in part]).outputs[manifest.logits]
            labels = [manifest.classes[i] for i in np.argmax(found, axis=1)]
            right += sum(one == label for one, (_, label) in zip(labels, part, strict=True))
    finally:
        lane.close()
    return right / len(labeled)


def _write(complete: Bundle, folder: Path, choice: Choice) -> Bundle:
    """Write the bundle with its model and the report; the manifest comes last."""
    files = {name: complete.read(name) for name in complete.manifest.files}
    files[REPORT_NAME] = (json.dumps(choice.to_dict(), indent=2) + "\n").encode()
    model = MODEL_FILES[choice.picked]
    try:
        return Bundle.create(folder, complete.manifest.evolve(model=model), files)
    except OSError as error:
        raise InputError(f"cannot write the bundle to {folder}: {error.strerror}") from error
