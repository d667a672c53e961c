"""OpenVINO as its own documentation has it: read, compile for latency, infer."""

from __future__ import annotations

from typing import Any

from ...backends.cpu.openvino import ov
from ...contracts.bundle import Bundle
from ...errors import BackendError
from .numpy_preprocess import Float
from .peer import NumpyPeer


class OpenVinoPeer(NumpyPeer):
    """One compiled model and one request.

    Args:
        bundle: The student.
        threads: CPU threads; None for OpenVINO's choice.
        graph: ONNX file in the bundle.
        precision: ``"f32"`` or ``"bf16"``; None for OpenVINO's choice.

    Raises:
        BackendError: The CPU has no bfloat16, but it was asked for.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None, graph: str, precision: str | None
    ) -> None:
        super().__init__(bundle, graph)
        core = ov.Core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in capabilities:
            raise BackendError(f"OpenVINO finds no bfloat16 on this CPU, only {capabilities}")
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        if precision is not None:
            options["INFERENCE_PRECISION_HINT"] = precision
        self._compiled = core.compile_model(core.read_model(self._content, b""), "CPU", options)
        self._request = self._compiled.create_infer_request()

    def infer(self, inputs: dict[str, Float]) -> Float:
        """See `NumpyPeer`."""
        self._request.infer(inputs, share_inputs=True, share_outputs=True)
        logits: Float = self._request.get_tensor("logits").data
        return logits

    def describe(self) -> dict[str, Any]:
        """See `Peer`."""
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        return {"openvino": ov.get_version(), "precision": precision.get_type_name()}
