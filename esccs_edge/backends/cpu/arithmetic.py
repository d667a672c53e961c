"""Which graph of a bundle this CPU runs, and in which number format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...contracts.bundle_files import (
    INT8_ONNX,
    STUDENT_ONNX,
    Precision,
    require_graph,
    require_precision,
)
from ...contracts.manifest import Manifest
from ...errors import BackendError
from ...system.cpu_features import (
    gains_by_int8,
    has_bf16,
    has_fp16,
    has_int8_dot_products,
)

#: Precision -> OpenVINO's name of it, for float graphs and for the float layers of an INT8 graph.
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_PRECISIONS: dict[str | None, Precision] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_IS_NATIVE: dict[str, Callable[[], bool]] = {"bf16": has_bf16, "fp16": has_fp16}


@dataclass(frozen=True)
class Arithmetic:
    """How the network is computed.

    Attributes:
        model: File of the bundle.
        is_int8: The graph is quantized.
        hint: OpenVINO's number type of float layers; None leaves it the choice.
        reason: Why, for people.
    """

    model: str
    is_int8: bool
    hint: str | None
    reason: str

    def precision(self, float_type: str | None) -> Precision | None:
        """Name the precision, given OpenVINO's number type of float layers."""
        return "int8" if self.is_int8 else _PRECISIONS.get(float_type)


def choose_arithmetic(manifest: Manifest, precision: Precision) -> Arithmetic:
    """Choose the graph.

    Args:
        manifest: Contract of the model, with the files of its bundle.
        precision: ``"auto"`` takes the bundle's model, but the float graph in place of an INT8 one
            where INT8 gains nothing (no INT8 dot products, or an ARM CPU): it is exact there. The
            float layers of an INT8 graph run in float32, since they gain nothing by less.

    Raises:
        InputError: There is no such precision.
        ArtifactError: The bundle has no graph of that precision.
        BackendError: This CPU does not compute in that precision.
    """
    require_precision(precision)
    if precision != "auto":
        if not _IS_NATIVE.get(precision, lambda: True)():
            raise BackendError(
                f"precision {precision} was asked for, but this CPU does not compute in it",
                hint="Use `precision='auto'`",
            )
        is_int8 = precision == "int8"
        model = require_graph(manifest.files, "int8" if is_int8 else "fp32")
        return Arithmetic(model, is_int8, _HINTS[precision], "asked for")
    if manifest.model != INT8_ONNX:
        # OpenVINO plans for bfloat16 on CPUs that have it, even where oneDNN is held back from it.
        # On ARM it would take float16, in which the floor of a division by a norm is 0: where a
        # modality is missing, 0 / 0 is answered.
        hint = None if has_bf16() else "f32"
        return Arithmetic(manifest.model, False, hint, "the bundle's model is float")
    if gains_by_int8():
        return Arithmetic(manifest.model, True, "f32", "this CPU has INT8 dot products")
    if STUDENT_ONNX not in manifest.files:
        return Arithmetic(manifest.model, True, "f32", "the bundle holds no float graph")
    reason = "this CPU has no INT8 dot products"
    if has_int8_dot_products():
        reason = "OpenVINO computes few INT8 layers in INT8 on ARM"
    return Arithmetic(STUDENT_ONNX, False, "f32", reason)
