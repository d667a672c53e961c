"""Hold every form of a model against what the trained network answered; no torch needed.

The reference sheet travels with the bundle, so this runs on any machine: through ONNX Runtime for
the ONNX files, and through any backend, raw pixels and preprocessing included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.backends.base import Backend
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.values import Sample
from esccs_edge.errors import ArtifactError, MissingDependencyError

from .reference import Arrays, read_reference


@dataclass(frozen=True)
class Tolerance:
    """How far a form of the model may stand from the trained network.

    Attributes:
        logits: Largest difference of a logit, as a share of the reference's largest logit.
        gate: Largest difference of a gate weight.
    """

    logits: float
    gate: float


#: float32 sums in another order; convolutions of a student add up at most some thousand terms.
FP32_TOLERANCE = Tolerance(logits=1e-4, gate=1e-4)
#: A backend normalizes raw pixels itself, and may order sums still differently.
BACKEND_FP32_TOLERANCE = Tolerance(logits=1e-3, gate=1e-3)
#: 8 significant bits in bfloat16 and int8 alike, lost again in each of some ten layers: 0.04 to
#: 0.07 was seen. This finds a wrong scale or a saturated layer on the sheet's simulated pixels;
#: what INT8 costs in accuracy on real ones is for the calibration report to say.
REDUCED_TOLERANCE = Tolerance(logits=0.15, gate=0.15)


@dataclass(frozen=True)
class ParityRow:
    """One form of the model against the reference.

    Attributes:
        name: File name or backend name.
        worst_logit: Largest absolute difference of a logit.
        worst_gate: Largest absolute difference of a gate weight.
        label_agreement: Share of reference rows with the same class.
        allowed_logit: Tolerance in the same unit as ``worst_logit``.
        allowed_gate: Tolerance of the gate.
        problem: Why it fails, or empty.
    """

    name: str
    worst_logit: float
    worst_gate: float
    label_agreement: float
    allowed_logit: float
    allowed_gate: float
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
        lines = [f"{'form':28}{'worst logit':>14}{'allowed':>10}{'worst gate':>13}{'allowed':>10}"
                 f"{'same label':>12}"]  # fmt: skip
        for row in self.rows:
            lines.append(
                f"{row.name:28}{row.worst_logit:14.2e}{row.allowed_logit:10.1e}"
                f"{row.worst_gate:13.2e}{row.allowed_gate:10.1e}{100 * row.label_agreement:10.0f} %"
            )
        return "\n".join(lines) + "\n"


def check_parity(
    bundle: Bundle, backend: Backend | None = None, *, backend_is_exact: bool = True
) -> ParityReport:
    """Compare the ONNX files of a bundle, and a backend if given, with the reference.

    Args:
        bundle: An exported bundle.
        backend: A loaded backend of the same bundle. It gets raw pixels rebuilt from the reference.
        backend_is_exact: It computes in float32 (``precision="fp32"``); False allows what
            bfloat16, float16 or INT8 lose. An INT8 model is never held to float32 tolerances.

    Raises:
        ArtifactError: A form is further off than its tolerance, not finite, answers an absent
            modality, or a file is missing or altered.
        MissingDependencyError: ONNX Runtime is not installed and there is no backend to compare.
    """
    inputs, expected = read_reference(bundle)
    manifest = bundle.manifest
    rows = []
    for name, run in _onnx_forms(bundle, optional=backend is not None).items():
        tolerance = _file_tolerance(name)
        rows.append(compare_outputs(name, run(inputs), inputs, expected, tolerance, manifest))
    if backend is not None:
        reduced = not backend_is_exact or _is_reduced(bundle.manifest.model)
        tolerance = REDUCED_TOLERANCE if reduced else BACKEND_FP32_TOLERANCE
        found = run_backend(backend, inputs, bundle.manifest)
        name = f"backend {backend.name}"
        rows.append(compare_outputs(name, found, inputs, expected, tolerance, manifest))
    report = ParityReport(tuple(rows))
    if problems := [f"{row.name}: {row.problem}" for row in rows if row.problem]:
        raise ArtifactError(
            "the bundle does not answer like the trained network: " + "; ".join(problems),
            hint="Export and calibrate again; on one machine only, check its libraries",
        )
    return report


def _file_tolerance(name: str) -> Tolerance:
    return REDUCED_TOLERANCE if _is_reduced(name) else FP32_TOLERANCE


def _is_reduced(name: str) -> bool:
    return name.endswith((".int8.onnx", ".fp16.onnx"))


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
            session = ort.InferenceSession(bundle.read(name), providers=["CPUExecutionProvider"])
            names = list(bundle.manifest.outputs)
            return dict(zip(names, session.run(names, inputs), strict=True))

        return run

    names = [name for name in sorted(bundle.manifest.files) if name.endswith(".onnx")]
    return {name: runner(name) for name in names if _is_current(name, bundle.manifest)}


def _is_current(name: str, manifest: Manifest) -> bool:
    if not name.endswith(".int8.onnx"):
        return True
    source = manifest.files.get(name.replace(".int8.onnx", ".onnx"))
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
    return {name: np.concatenate([part[name] for part in parts]) for name in manifest.outputs}


def _raw_samples(inputs: Arrays, manifest: Manifest) -> list[Sample]:
    """Undo the normalization; pixels that are 0 in all channels were invalid and become NaN."""
    raw = {name: _raw(inputs[name], spec) for name, spec in manifest.modalities.items()}
    return [
        Sample(
            {
                name: raw[name][i] if share > 0 else None
                for name, share in zip(raw, shares, strict=True)
            }
        )
        for i, shares in enumerate(inputs["availability"])
    ]


def _raw(normalized: npt.NDArray[np.float32], spec: ModalitySpec) -> npt.NDArray[np.float32]:
    mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in (spec.mean, spec.std))
    raw = (normalized.astype(np.float64) * std + mean).astype(np.float32)
    invalid = (normalized == 0).all(axis=1, keepdims=True)
    return np.where(invalid, np.float32(np.nan), raw)


def compare_outputs(
    name: str,
    found: Mapping[str, Any],
    inputs: Arrays,
    expected: Arrays,
    tolerance: Tolerance,
    manifest: Manifest,
) -> ParityRow:
    """Compare one form's outputs with the expected ones; the row says what is wrong, if any."""
    logits, wanted = found[manifest.logits], expected[manifest.logits]
    shares = [n for n, tensor in manifest.outputs.items() if tensor.role == "share"]
    allowed = tolerance.logits * max(1.0, float(np.abs(wanted).max()))
    worst_logit = float(np.abs(logits - wanted).max())
    worst_gate = float(max((np.abs(found[n] - expected[n]).max() for n in shares), default=0.0))
    same = logits.argmax(axis=1) == wanted.argmax(axis=1)
    problem = ""
    if not worst_logit <= allowed:  # also true for NaN
        problem = f"a logit is off by {worst_logit:.3g}, allowed {allowed:.3g}"
    elif not worst_gate <= tolerance.gate:
        problem = f"a gate weight is off by {worst_gate:.3g}, allowed {tolerance.gate:.3g}"
    elif any(np.any(found[n][inputs["availability"] == 0] != 0) for n in shares):
        problem = "an absent modality has a gate weight, expected exactly 0"
    return ParityRow(
        name, worst_logit, worst_gate, float(same.mean()), allowed, tolerance.gate, problem
    )
