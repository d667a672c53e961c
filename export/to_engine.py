"""Bundle -> a TensorRT engine file for this GPU, or, with TensorRT for RTX, for a named one.

The engine and a JSON record of how it was made appear beside each other, complete or not at all.
An engine is native code: the runtime loads only what its own cache built, never such a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

from esccs_edge import __version__
from esccs_edge.backends.trt.build import (
    WORKSPACE_BYTES,
    BuildCallback,
    BuildOptions,
    BuiltPlan,
    build_plan,
)
from esccs_edge.backends.trt.layers import layers_of_inspector, layers_of_table
from esccs_edge.backends.trt.library import Flavor, FlavorName, load_engine, load_flavor
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MODEL_FILES, GraphPrecision, require_graph
from esccs_edge.contracts.manifest import BatchProfile, Manifest
from esccs_edge.contracts.onnx_file import read_model
from esccs_edge.cuda.probe import driver_present, probe_driver
from esccs_edge.errors import ArtifactError, BackendError, InputError, MissingDependencyError
from esccs_edge.system.atomic import write_atomic


@dataclass(frozen=True)
class EngineReport:
    """What was built; `to_dict` is the record written beside the engine.

    Attributes:
        path: The engine file.
        record_path: Its JSON record.
        bytes: Size of the engine.
        sha256: Digest of the engine.
        seconds: Time TensorRT took to build.
        flavor: ``"rtx"`` or ``"tensorrt"``.
        version: Version of that library.
        precision: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        target: Name of the GPU it was built for, ``"sm_86"`` or ``"portable"``.
        profile: Batch sizes it accepts.
        bundle: Name and digests of what it was built from.
        options: Builder options and driver version.
        layers: Each layer with its part and number types (`backends.trt.layers.EngineLayer`),
            as the engine inspector lists them on its GPU, or TensorRT for RTX while it builds
            elsewhere; empty where they do not.
    """

    path: Path
    record_path: Path
    bytes: int
    sha256: str
    seconds: float
    flavor: str
    version: str
    precision: str
    target: str
    profile: BatchProfile
    bundle: dict[str, str]
    options: dict[str, Any]
    layers: tuple[dict[str, Any], ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; paths as file names."""
        document = asdict(self)
        document.update(
            path=self.path.name,
            record_path=self.record_path.name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            esccs_edge=__version__,
        )
        return document


def build_engine(
    bundle: Bundle,
    *,
    flavor: FlavorName = "rtx",
    precision: GraphPrecision = "int8",
    out: str | os.PathLike[str] | None = None,
    target: str | None = None,
    progress: BuildCallback | None = None,
    workspace_bytes: int = WORKSPACE_BYTES,
) -> EngineReport:
    """Build one engine and write it as ``<target>.<precision>.<flavor>.plan``.

    Args:
        bundle: Holds the ONNX; read through its digest.
        flavor: ``"tensorrt"`` builds on the GPU that will run the engine; ``"rtx"`` also builds
            without a GPU.
        precision: ``"int8"`` needs a calibrated bundle; ``"fp16"`` is made from the float32 student
            unless the bundle holds it.
        out: Folder to write to; None is the bundle's own.
        target: RTX only: ``"portable"`` or a compute capability such as ``"8.6"``. None is this
            host's GPU, or ``"portable"`` where there is none.
        progress: Called with ``(phase, steps_done, steps)`` while building.
        workspace_bytes: Scratch memory the builder may plan with.

    Raises:
        InputError: Unknown flavor, precision or target, or a target given to ``tensorrt``.
        ArtifactError: The bundle lacks the file for this precision, or it was altered; or it is
            the one in the package, and ``out`` is None.
        MissingDependencyError: The TensorRT library, or onnx for fp16, is not installed.
        BackendError: There is no GPU where one is needed, or TensorRT refused the network.
    """
    if out is None:
        _require_own(bundle)
    onnx = _model(bundle, precision)
    library = load_flavor(flavor)
    options = BuildOptions(
        batch=bundle.manifest.batch,
        target=_target(flavor, target),
        workspace_bytes=workspace_bytes,
    )
    started = time.perf_counter()
    built = build_plan(library, onnx, bundle.manifest, options, progress=progress)
    plan = built.plan
    seconds = time.perf_counter() - started
    folder = bundle.folder if out is None else Path(out)
    name = _target_name(options.target)
    path = folder / f"{_slug(name)}.{precision}.{flavor}.plan"
    report = EngineReport(
        path=path,
        record_path=path.with_name(path.name + ".json"),
        bytes=len(plan),
        sha256=hashlib.sha256(plan).hexdigest(),
        seconds=round(seconds, 3),
        flavor=flavor,
        version=library.version,
        precision=precision,
        target=name,
        profile=options.batch,
        bundle={
            "name": bundle.manifest.name,
            "manifest_sha256": bundle.digest,
            "onnx_sha256": hashlib.sha256(onnx).hexdigest(),
        },
        options={**asdict(options), "driver": probe_driver().version},
        layers=_layers(library, built, options.target, bundle.manifest),
    )
    _write(report, plan)
    return report


def _require_own(bundle: Bundle) -> None:
    try:
        bundle.require_own()
    except ArtifactError as error:
        raise ArtifactError(error.message, hint="Name a folder for the engine with --out") from None


def _model(bundle: Bundle, precision: GraphPrecision) -> bytes:
    if precision not in get_args(GraphPrecision):
        raise InputError(f"precision is {precision!r}, expected one of {get_args(GraphPrecision)}")
    files = bundle.manifest.files
    if precision == "fp16" and MODEL_FILES["fp16"] not in files:
        return _float16(read_model(bundle, require_graph(files, "fp32")), bundle.manifest)
    return read_model(bundle, require_graph(files, precision))


def _float16(student: bytes, manifest: Manifest) -> bytes:
    try:
        from .to_fp16 import float16_model
    except ModuleNotFoundError as error:
        raise MissingDependencyError.for_extra("onnx", "export", "Making an fp16 model") from error
    return float16_model(student, manifest.outputs)


def _target(flavor: FlavorName, target: str | None) -> str:
    if flavor == "rtx":
        return target or ("current" if driver_present() else "portable")
    if target is not None:
        raise InputError(
            f"target {target!r} was given, but flavor 'tensorrt' builds only for this host's GPU",
            hint="Leave the target out, or use flavor 'rtx'",
        )
    return "current"


def _target_name(target: str) -> str:
    if target == "current":
        return probe_driver().gpus[0].name
    return target if target == "portable" else "sm_" + target.replace(".", "")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _layers(
    flavor: Flavor, built: BuiltPlan, target: str, manifest: Manifest
) -> tuple[dict[str, Any], ...]:
    listed = load_engine(flavor, built.plan).layers() if target == "current" else None
    try:
        if listed is None:
            found = layers_of_table(built.layers, manifest.modalities)
        else:
            found = layers_of_inspector(listed, manifest.modalities)
    except BackendError:  # a version that lists less; the engine is good all the same
        return ()
    return tuple(asdict(layer) for layer in found)


def _write(report: EngineReport, plan: bytes) -> None:
    """The record comes last: an engine without one was not finished."""
    try:
        report.record_path.unlink(missing_ok=True)  # of another plan under this name
        write_atomic(report.path, plan)
        write_atomic(report.record_path, json.dumps(report.to_dict(), indent=2) + "\n")
    except OSError as error:
        raise ArtifactError(
            f"cannot write the engine to {report.path.parent}: {error.strerror}",
            hint="Choose another folder with --out",
        ) from error
