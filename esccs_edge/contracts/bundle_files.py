"""Names of the files in a bundle, and which of them runs at which precision."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from ..errors import ArtifactError, InputError

#: Number format of a network; ``"auto"`` leaves the choice to the backend.
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
#: Number formats of the graphs in a bundle, and so of engines.
GraphPrecision = Literal["fp32", "fp16", "int8"]

MANIFEST = "manifest.json"
MLM = "mlm.json"
STUDENT_WEIGHTS = "student.safetensors"
STUDENT_ONNX = "student.onnx"
FP16_ONNX = "student.fp16.onnx"
INT8_ONNX = "student.int8.onnx"
REFERENCE = "reference.npz"
CALIBRATION_REPORT = "calibration.json"
#: What `esccs-edge build --choose` measured on a GPU; where it is, the manifest's model follows it.
MEASURED = "choice.json"
CALIBRATION_PAIRS = "calibration-pairs.csv"

#: Precision -> the graph that holds it.
MODEL_FILES: dict[GraphPrecision, str] = {
    "fp32": STUDENT_ONNX,
    "fp16": FP16_ONNX,
    "int8": INT8_ONNX,
}
_MADE_BY: dict[GraphPrecision, str] = {
    "fp32": "Run: esccs-edge export BUNDLE",
    "fp16": "Run: esccs-edge build BUNDLE --choose --out NEW_BUNDLE (needs onnx), or call "
    "esccs_edge.export.to_fp16.add_float16",
    "int8": "Run: esccs-edge calibrate BUNDLE INDEX.csv",
}


def require_precision(precision: str) -> None:
    """Refuse a word that is no `Precision`.

    Raises:
        InputError: It is another word.
    """
    if precision not in get_args(Precision):
        raise InputError(
            f"precision is {precision!r}, expected one of {', '.join(get_args(Precision))}"
        )


def require_graph(files: Collection[str], precision: GraphPrecision) -> str:
    """Return the name of the graph of a precision.

    Raises:
        ArtifactError: It is not among the files; the hint says how to make it.
    """
    name = MODEL_FILES[precision]
    if name not in files:
        raise ArtifactError(
            f"the bundle has no {name}, which precision {precision} needs",
            hint=_MADE_BY[precision],
        )
    return name
