"""Names of the files in a bundle, and which of them runs at which precision."""

from __future__ import annotations

from typing import Literal, get_args

from ..errors import InputError

#: Number format of a network; ``"auto"`` leaves the choice to the backend.
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
#: Number formats of the graphs in a bundle.
GraphPrecision = Literal["fp32", "fp16", "int8"]

MANIFEST = "manifest.json"
MLM = "mlm.json"
STUDENT_WEIGHTS = "student.safetensors"
STUDENT_ONNX = "student.onnx"
FP16_ONNX = "student.fp16.onnx"
INT8_ONNX = "student.int8.onnx"
REFERENCE = "reference.npz"
CALIBRATION_REPORT = "calibration.json"
CALIBRATION_PAIRS = "calibration-pairs.csv"

#: Precision -> the graph that holds it.
MODEL_FILES: dict[GraphPrecision, str] = {
    "fp32": STUDENT_ONNX,
    "fp16": FP16_ONNX,
    "int8": INT8_ONNX,
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
