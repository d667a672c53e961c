"""OpenVINO as its own documentation has it: read, compile for latency, infer."""

from __future__ import annotations

import os
from typing import Any

from esccs_edge.backends.cpu.openvino import ov
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import INT8_ONNX
from esccs_edge.errors import BackendError
from esccs_edge.system.cpu_features import has_int8_dot_products

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
        BackendError: The CPU has no bfloat16, or may not use it, but it was asked for. Or the graph
            is in INT8 and the CPU has no dot products of it: sums then saturate in 16 bits, and
            labels are not those of the model.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None, graph: str, precision: str | None
    ) -> None:
        if graph == INT8_ONNX and not has_int8_dot_products():
            raise BackendError("OpenVINO's INT8 sums saturate on this CPU: no INT8 dot products")
        super().__init__(bundle, graph)
        self._core, self._threads = ov.Core(), threads
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in capabilities:
            raise BackendError(f"OpenVINO finds no bfloat16 on this CPU, only {capabilities}")
        # OpenVINO picks the precision by the CPU alone, oneDNN its kernels by this variable too.
        # Where that rules out bfloat16, layers have no kernel and answers come without rows.
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
        if limit and not self._has_kernels(precision):
            if precision == "bf16":
                raise BackendError(
                    "OpenVINO finds bfloat16 on this CPU, but oneDNN has no bfloat16 kernels under "
                    f"ONEDNN_MAX_CPU_ISA={limit}"
                )
            precision = "f32"  # what OpenVINO chooses by itself on a CPU without bfloat16
        self._compiled = self._compile(precision)
        self._request = self._compiled.create_infer_request()

    def _compile(self, precision: str | None, batch: int | None = None) -> ov.CompiledModel:
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if self._threads is not None:
            options["INFERENCE_NUM_THREADS"] = self._threads
        if precision is not None:
            options["INFERENCE_PRECISION_HINT"] = precision
        model = self._core.read_model(self._content, b"")
        if batch is not None:
            model.reshape({
                port.any_name: [batch, *(axis.get_length() for axis in port.partial_shape[1:])]
                for port in model.inputs
            })  # fmt: skip
        return self._core.compile_model(model, "CPU", options)

    def _has_kernels(self, precision: str | None) -> bool:
        """Tell whether all layers can run. Only with a fixed batch does OpenVINO say so in time."""
        try:
            self._compile(precision, batch=1)
        except RuntimeError:
            return False
        return True

    def infer(self, inputs: dict[str, Float]) -> Float:
        """See `NumpyPeer`."""
        self._request.infer(inputs, share_inputs=True, share_outputs=True)
        logits: Float = self._request.get_tensor("logits").data
        return logits

    def describe(self) -> dict[str, Any]:
        """See `Peer`."""
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        return {"openvino": ov.get_version(), "precision": precision.get_type_name()}
