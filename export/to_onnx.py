"""Student weights -> `student.onnx` and `reference.npz`.

The network is rebuilt from the bundle, written by the torch exporter with a dynamic batch axis,
simplified, given stable names, and described in its own metadata. Same weights, same bytes. Where
a task answers per pixel, images of bytes are added behind it (`answer_images`).
"""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from esccs_edge import __version__
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import (
    CALIBRATION_PAIRS,
    CALIBRATION_REPORT,
    FP16_ONNX,
    INT8_ONNX,
    REFERENCE,
    STUDENT_ONNX,
    STUDENT_WEIGHTS,
)
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.onnx_file import require_plain
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.types import Floats
from esccs_edge.errors import ArtifactError, InputError
from esccs_edge.training.learning.factories import named_encoders, trust_encoder
from esccs_edge.training.learning.tasks import learning_task

from .answer_images import with_answer_images
from .constant_scales import with_constant_scales
from .graph_names import with_stable_names
from .parity import FP32_TOLERANCE, compare_outputs
from .reference import Arrays, pack_reference, reference_inputs
from .simplify import simplified

#: Made from an earlier `student.onnx`; they no longer belong to a bundle that is exported again.
DERIVED_FILES = (INT8_ONNX, FP16_ONNX, CALIBRATION_REPORT, CALIBRATION_PAIRS)
#: The oldest opset the exporter writes without conversion; TensorRT 10.3 reads up to 20.
OPSET = 18
#: The oldest IR that carries opset 18, so that older runtimes accept the file.
IR_VERSION = 8


def export_student(bundle: Bundle, *, encoders: Sequence[str] = ()) -> Bundle:
    """Add `student.onnx` and `reference.npz` to a trained bundle and make the former its model.

    An earlier calibration is dropped with its files, since it measured another graph.

    Args:
        bundle: Holds `student.safetensors`; ``architecture`` gives the sizes of the network.
        encoders: Factories of other packages, ``"package.module:factory"``, that the bundle names
            and that may be imported; see `factories.trust_encoder`.

    Returns:
        The extended bundle. ``provenance["export"]`` says with what it was made.

    Raises:
        ArtifactError: The weights are missing, altered, not finite, or do not fit the
            architecture; or the exported graph answers differently. Nothing is written then.
        ManifestError: The manifest does not state the architecture, or names an encoder of another
            package that is not among ``encoders``.
        InputError: One of ``encoders`` is not what the bundle names.
    """
    manifest = bundle.manifest
    bundle.read(STUDENT_WEIGHTS)
    bundle.require_own()
    for encoder in encoders:
        _trust(encoder, manifest)
    student = load_student(bundle)
    inputs = reference_inputs(manifest)
    answers = _answers(student, inputs, manifest)
    _require_finite(answers)
    plain = _onnx_from_torch(student, inputs, manifest)
    chosen, simplifier = simplified(plain, inputs)
    weights_digest = manifest.files[STUDENT_WEIGHTS].sha256
    content = _finished(chosen, manifest, weights_digest, simplifier)
    require_plain(content, STUDENT_ONNX)  # else no backend would take it
    _require_agreement(content, inputs, answers, manifest)
    made_with = {
        "opset": OPSET,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "simplifier": simplifier,
        "weights_sha256": weights_digest,
    }
    return bundle.add(
        {STUDENT_ONNX: content, REFERENCE: pack_reference(inputs, answers)},
        without=DERIVED_FILES,
        model=STUDENT_ONNX,
        quantization=None,
        provenance={**manifest.provenance, "export": made_with},
    )


def _trust(encoder: str, manifest: Manifest) -> None:
    named = sorted(set(named_encoders(manifest.architecture)))
    if encoder not in named:
        words = " and ".join(map(repr, named)) or "none"
        raise InputError(
            f"encoder is {encoder!r}, and the bundle names {words}",
            hint="Name the encoder with which the bundle was trained, or leave --encoder out",
        )
    trust_encoder(encoder)


def _answers(student: nn.Module, inputs: Arrays, manifest: Manifest) -> Arrays:
    """Ask the trained network; one output may come without a tuple around it."""
    with torch.inference_mode():
        outputs = student(*(torch.from_numpy(inputs[name]) for name in manifest.inputs))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {name: t.numpy() for name, t in zip(manifest.outputs, outputs, strict=True)}


def load_student(bundle: Bundle) -> nn.Module:
    """Rebuild the student of a bundle, in eval mode on the CPU.

    Raises:
        ArtifactError: The weights are missing, altered, or do not fit the architecture.
        ManifestError: The manifest does not state the architecture.
        InputError: How the task is learned is not known here.
    """
    manifest = bundle.manifest
    student = learning_task(manifest.task).network(manifest)
    content = bundle.read(STUDENT_WEIGHTS)
    try:
        student.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as error:
        raise ArtifactError(
            f"{STUDENT_WEIGHTS} does not fit the architecture {dict(manifest.architecture)}: "
            f"{error}",
            hint="The weights and the manifest come from different trainings; train again",
        ) from error
    return student.eval()


def _onnx_from_torch(student: nn.Module, inputs: Mapping[str, Floats], manifest: Manifest) -> bytes:
    """Run the exporter; its batch norms are folded into the convolutions.

    Raises:
        ArtifactError: The network cannot be a graph for any number of samples, as one of an
            encoder of another package whose Python looks at values or fixes the batch.
    """
    axes: tuple[Any, ...] = tuple({0: torch.export.Dim.DYNAMIC} for _ in manifest.inputs)
    if _takes_any_number(student):
        axes = (axes,)
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # about names of axes and torch's own deprecations
        try:
            program = torch.onnx.export(
                student,
                tuple(torch.from_numpy(inputs[name]) for name in manifest.inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(manifest.inputs),
                output_names=list(manifest.outputs),
                dynamic_shapes=axes,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            cause = str(error.__cause__ or error).strip().splitlines()
            raise ArtifactError(
                f"the network cannot be written as one graph: {cause[0] if cause else error!r}",
                hint="Its code may look at no value of a tensor and has to take any batch",
            ) from error
    assert program is not None  # only the old exporter returns nothing
    return bytes(program.model_proto.SerializeToString())


def _takes_any_number(network: nn.Module) -> bool:
    """Return whether all inputs are one argument, ``*inputs``."""
    (first, *_) = inspect.signature(network.forward).parameters.values()
    return first.kind is inspect.Parameter.VAR_POSITIONAL


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a logger; the exporter warns about optional packages that we do not use."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _finished(chosen: bytes, manifest: Manifest, weights_digest: str, simplifier: str) -> bytes:
    """Name, describe and check the graph."""
    model = with_constant_scales(onnx.load_from_string(chosen))
    model = with_answer_images(model, manifest)
    model = with_stable_names(model)
    _describe(model, manifest, weights_digest, simplifier)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _require_finite(answers: Arrays) -> None:
    if not all(np.isfinite(array).all() for array in answers.values()):
        raise ArtifactError(
            "the trained network answers NaN or infinity on the reference inputs",
            hint="Training diverged or the weights are damaged; train again",
        )


def _require_agreement(content: bytes, inputs: Arrays, answers: Arrays, manifest: Manifest) -> None:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = dict(zip(answers, session.run(list(answers), inputs), strict=True))
    row = compare_outputs(STUDENT_ONNX, found, inputs, answers, FP32_TOLERANCE, manifest)
    if row.problem:
        raise ArtifactError(
            f"the exported graph does not answer like the trained network: {row.problem}",
            hint="Try other versions of torch, onnxscript and onnx",
        )


def _describe(
    model: onnx.ModelProto, manifest: Manifest, weights_digest: str, simplifier: str
) -> None:
    """Write into the file what a reader without the manifest must know."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "esccs-edge", __version__
    model.doc_string = (
        f"{task_named(manifest.task).network}: {', '.join(manifest.inputs)} -> "
        f"{', '.join(manifest.outputs | manifest.returned)}"
    )
    facts: dict[str, Any] = {
        "name": manifest.name,
        "task": manifest.task,
        "classes": manifest.classes,
        "modalities": list(manifest.modalities),
        "sample": asdict(manifest.sample),
        "temperature": manifest.temperature,
        "esccs_edge_version": __version__,
        "weights_sha256": weights_digest,
        "simplifier": simplifier,
    }
    for name, spec in manifest.modalities.items():
        facts[f"channels.{name}"] = spec.channels
        facts[f"normalization.{name}"] = {
            "unit": spec.unit, "clip": spec.clip, "mean": spec.mean, "std": spec.std,
            "dn_scale": spec.dn_scale, "dn_offset": spec.dn_offset, "nodata": spec.nodata,
            "stored_unit": spec.stored_unit or spec.unit,
        }  # fmt: skip
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    onnx.helper.set_model_props(model, texts)
