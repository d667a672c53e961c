"""Hold every form of a model against what the trained network answered; no torch needed.

The reference travels with the bundle, so this runs on any machine: through ONNX Runtime for the
ONNX files, and through any backend, raw pixels and preprocessing included. Outputs are compared by
their role, see `esccs_edge.contracts.tensor`. Where a backend returns images of bytes alone, these
are compared with those that NumPy makes of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from esccs_edge.backends.base import Backend
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import FP16_ONNX, INT8_ONNX, STUDENT_ONNX
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.onnx_file import read_model
from esccs_edge.contracts.tensor import Tensor
from esccs_edge.contracts.types import Array, Floats
from esccs_edge.contracts.values import Sample
from esccs_edge.errors import ArtifactError, MissingDependencyError

from .answer_images import IMAGE_UNITS, answer_images
from .reference import Arrays, read_reference, thinned


@dataclass(frozen=True)
class Tolerance:
    """How far the outputs of a form may be from those of the trained network, by their role.

    Attributes:
        logits: Largest difference of a logit, as a share of the reference's largest logit.
        share: Largest difference of a share, such as a gate weight.
        distance: Largest difference of a distance, as a share of the reference's largest one.
    """

    logits: float
    share: float
    distance: float


#: What one value of an output is called, by its role.
_VALUES = {
    "logits": "a logit", "share": "a {} weight", "distance": "a {}", "label": "a share of the {}s",
    "confidence": "a {}", "percent": "a {}", "scores": "one of the {}",
}  # fmt: skip
#: Outputs side by side in a table.
MOST_COLUMNS = 3
#: Images are rounded to their unit once in the reference and once in the form.
_ROUNDING = 1.0

#: float32 sums in another order; convolutions of a student add up at most some thousand terms.
FP32_TOLERANCE = Tolerance(logits=1e-4, share=1e-4, distance=1e-3)
#: A backend normalizes raw pixels itself, and may order sums still differently.
BACKEND_FP32_TOLERANCE = Tolerance(logits=1e-3, share=1e-3, distance=1e-2)
#: 8 significant bits in bfloat16 and int8 alike, lost again in each of some ten layers: 0.04 to
#: 0.07 was seen. This finds a wrong scale or a saturated layer on simulated pixels; what INT8 costs
#: in accuracy on real ones is for the calibration report to say.
REDUCED_TOLERANCE = Tolerance(logits=0.15, share=0.15, distance=0.15)


@dataclass(frozen=True)
class ParityRow:
    """One form of the model against the reference.

    Attributes:
        name: File name or backend name.
        worst: Largest absolute difference of each output, by its name.
        allowed: Tolerance of each output, in the same unit.
        label_agreement: Share of reference rows, or of their pixels, with the same class.
        problem: Why it fails, or empty.
    """

    name: str
    worst: Mapping[str, float]
    allowed: Mapping[str, float]
    label_agreement: float
    problem: str


@dataclass(frozen=True)
class ParityReport:
    """All forms that were compared, each within its tolerance."""

    rows: tuple[ParityRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"forms": [asdict(row) for row in self.rows]}

    def to_table(self) -> str:
        """Return the report for people."""
        outputs = [name for row in self.rows[:1] for name in row.worst]
        if any(len(row.worst) > MOST_COLUMNS for row in self.rows):
            return self._listing()
        titles = "".join(f"{'worst ' + name:>20}{'allowed':>10}" for name in outputs)
        lines = [f"{'form':20}{titles}{'same label':>12}"]
        for row in self.rows:
            found = "".join(f"{row.worst[n]:20.2e}{row.allowed[n]:10.1e}" for n in outputs)
            lines.append(f"{row.name:20}{found}{100 * row.label_agreement:10.0f} %")
        return "\n".join(lines) + "\n"

    def _listing(self) -> str:
        """Return a line per form and output, where one line of all would be too long to read."""
        lines = [f"{'form':20}{'output':16}{'worst':>10}{'allowed':>10}{'same label':>12}"]
        for row in self.rows:
            same = f"{100 * row.label_agreement:10.1f} %"
            for name, worst in row.worst.items():
                lines.append(f"{row.name:20}{name:16}{worst:10.2e}{row.allowed[name]:10.1e}{same}")
                same = ""
        return "\n".join(lines) + "\n"


def check_parity(bundle: Bundle, backend: Backend | None = None) -> ParityReport:
    """Compare the ONNX files of a bundle, and a backend if given, with the reference.

    Args:
        bundle: An exported bundle.
        backend: A loaded backend of the same bundle. It gets raw pixels rebuilt from the
            reference. Unless it states that it computes in ``"fp32"``, it may lose what bfloat16,
            float16 and INT8 lose.

    Raises:
        ArtifactError: A form is further off than its tolerance, not finite, answers an absent
            modality, or a file is missing or altered.
        MissingDependencyError: ONNX Runtime is not installed and there is no backend to compare.
    """
    inputs, expected = read_reference(bundle)
    manifest = bundle.manifest
    rows = []
    for name, run in _onnx_forms(bundle, optional=backend is not None).items():
        tolerance = REDUCED_TOLERANCE if name in (INT8_ONNX, FP16_ONNX) else FP32_TOLERANCE
        rows.append(compare_outputs(name, run(inputs), inputs, expected, tolerance, manifest))
    if backend is not None:
        precision = backend.describe().get("precision")
        tolerance = BACKEND_FP32_TOLERANCE if precision == "fp32" else REDUCED_TOLERANCE
        found = run_backend(backend, inputs, manifest)
        name = f"backend {backend.name}" + (f", {precision}" if precision else "")
        rows.append(compare_outputs(name, found, inputs, expected, tolerance, manifest))
    report = ParityReport(tuple(rows))
    if problems := [f"{row.name}: {row.problem}" for row in rows if row.problem]:
        raise ArtifactError(
            "the bundle does not answer like the trained network: " + "; ".join(problems),
            hint="Export and calibrate again; on one machine only, check its libraries",
        )
    return report


def _onnx_forms(bundle: Bundle, optional: bool) -> dict[str, Callable[[Arrays], Arrays]]:
    """Return a runner per ONNX file; an INT8 file made from another export is not one of them."""
    try:
        import onnxruntime as ort
    except ImportError:
        if optional:
            return {}
        raise MissingDependencyError.for_extra(
            "onnxruntime", "export", "comparing ONNX files with the reference"
        ) from None

    def runner(name: str) -> Callable[[Arrays], Arrays]:
        def run(inputs: Arrays) -> Arrays:
            session = ort.InferenceSession(
                read_model(bundle, name), providers=["CPUExecutionProvider"]
            )
            names = list(bundle.manifest.outputs | bundle.manifest.returned)
            return dict(zip(names, session.run(names, inputs), strict=True))

        return run

    names = [name for name in sorted(bundle.manifest.files) if name.endswith(".onnx")]
    return {name: runner(name) for name in names if _is_current(name, bundle.manifest)}


def _is_current(name: str, manifest: Manifest) -> bool:
    if name != INT8_ONNX:
        return True
    source = manifest.files.get(STUDENT_ONNX)
    made_from = (manifest.quantization or {}).get("source_sha256")
    return source is None or source.sha256 == made_from


def run_backend(backend: Backend, inputs: Arrays, manifest: Manifest) -> Arrays:
    """Return a backend's outputs for the reference inputs, which it gets as raw pixels."""
    lane = backend.open_lane()
    try:
        samples = _raw_samples(inputs, manifest)
        parts = [
            lane.answer(samples[start : start + backend.max_batch]).outputs
            for start in range(0, len(samples), backend.max_batch)
        ]
    finally:
        lane.close()
    return {name: np.concatenate([part[name] for part in parts]) for name in manifest.returned}


def _raw_samples(inputs: Arrays, manifest: Manifest) -> list[Sample]:
    """Return the stored pixels; those that are 0 in all channels were invalid and become NaN."""
    raw = {name: _raw(inputs[name], spec) for name, spec in manifest.modalities.items()}
    return [
        Sample(
            {
                name: raw[name][i] if share > 0 else None
                for name, share in zip(raw, shares, strict=True)
            }
        )
        for i, shares in enumerate(inputs[manifest.availability])
    ]


def _raw(normalized: Floats, spec: ModalitySpec) -> Floats:
    mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in (spec.mean, spec.std))
    raw = spec.stored_floats(normalized.astype(np.float64) * std + mean)
    invalid = (normalized == 0).all(axis=1, keepdims=True)
    return np.where(invalid, np.float32(np.nan), raw)


def compare_outputs(
    name: str,
    found: Mapping[str, Array],
    inputs: Arrays,
    expected: Arrays,
    tolerance: Tolerance,
    manifest: Manifest,
) -> ParityRow:
    """Compare one form's outputs with the expected ones; the row says what is wrong, if any.

    Args:
        name: Of the form.
        found: What it answers: the network's outputs, what a backend returns, or both.
        inputs: What it was asked.
        expected: The network's outputs, whole or `thinned`.
        tolerance: How far off it may be.
        manifest: Contract of the model.
    """
    found, expected = thinned(found), thinned(expected)
    tensors = {n: t for n, t in (manifest.outputs | manifest.returned).items() if n in found}
    wanted: dict[str, Array] = {**answer_images(expected, manifest), **expected}
    # What lies closer to a tie than the logits may be off can fall to either class.
    slack = _allowed_logit(expected[manifest.logits], tolerance)
    first, second = -np.sort(-expected[manifest.logits], axis=1)[:, :2].swapaxes(0, 1)
    decided = first - second > 2 * slack
    is_judged = inputs[manifest.availability].any(axis=1)  # others reach no answer
    worst, allowed, problems = {}, {}, []
    absent = inputs[manifest.availability] == 0
    for n, tensor in tensors.items():
        rows = is_judged if tensor.role in IMAGE_UNITS or tensor.role == "label" else slice(None)
        if tensor.role == "label":
            other = (found[n] != wanted[n])[rows]
            worst[n], allowed[n] = float((other & decided[rows]).mean()), 0.0
        else:
            off = np.subtract(found[n][rows], wanted[n][rows], dtype=np.float32)
            worst[n] = float(np.abs(off).max())
            allowed[n] = _allowed(tensor, expected, tolerance, manifest)
        value = _VALUES[tensor.role].format(n)
        if not worst[n] <= allowed[n]:  # also true for NaN
            problems.append(f"{value} is off by {worst[n]:.3g}, allowed {allowed[n]:.3g}")
        elif _is_per_modality(tensor, manifest) and np.any(found[n][absent] != 0):
            problems.append(f"an absent modality has {value}, expected exactly 0")
        elif tensor.role == "percent" and np.any(found[n][absent[:, 0] & is_judged] != 0):
            problems.append(f"an absent modality has {value}, expected exactly 0")
    agreement = float((_labels(found, manifest) == _labels(wanted, manifest))[is_judged].mean())
    return ParityRow(name, worst, allowed, agreement, "; ".join(problems))


def _labels(outputs: Mapping[str, Array], manifest: Manifest) -> Array:
    if manifest.logits in outputs:
        return np.asarray(outputs[manifest.logits].argmax(axis=1))
    images = (name for name, tensor in manifest.returned.items() if tensor.role == "label")
    return np.asarray(outputs[next(images)])


def _allowed(tensor: Tensor, expected: Arrays, tolerance: Tolerance, manifest: Manifest) -> float:
    logit = _allowed_logit(expected[manifest.logits], tolerance)
    if tensor.role == "logits":
        return logit
    if tensor.role == "share":
        return tolerance.share
    if tensor.role == "distance":
        return tolerance.distance * max(1.0, float(np.abs(expected[tensor.name]).max()))
    if tensor.role == "percent":
        return IMAGE_UNITS["percent"] * tolerance.share + _ROUNDING
    # Logits that are off by e move a difference of two by 2 e, and a probability by tanh(e / 2).
    return IMAGE_UNITS[tensor.role] * float(np.tanh(logit / manifest.temperature / 2)) + _ROUNDING


def _allowed_logit(expected: Floats, tolerance: Tolerance) -> float:
    return tolerance.logits * max(1.0, float(np.abs(expected).max()))


def _is_per_modality(tensor: Tensor, manifest: Manifest) -> bool:
    return tensor.role in ("share", "distance") and tensor.row[:1] == (len(manifest.modalities),)
