"""Networks in other runtimes with nothing around them: inputs in, logits out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from esccs_edge.backends.cpu.openvino import ov

from .peers.numpy_preprocess import Float

#: Inputs of the network -> logits ``(N, K, ...)``, which the next call may overwrite.
Network = Callable[[dict[str, Float]], Float]


def openvino_network(
    graph: bytes, *, threads: int | None = None, hint: str | None = None
) -> Network:
    """Compile an ONNX graph for latency.

    Args:
        graph: The file's content.
        threads: CPU threads; None for OpenVINO's choice.
        hint: Number type of float layers, such as ``"f32"``; None for OpenVINO's choice.
    """
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    if hint is not None:
        options["INFERENCE_PRECISION_HINT"] = hint
    core = ov.Core()
    request = core.compile_model(core.read_model(graph, b""), "CPU", options).create_infer_request()

    def run(inputs: dict[str, Float]) -> Float:
        request.infer(inputs, share_inputs=True, share_outputs=True)
        logits: Float = request.get_tensor("logits").data
        return logits

    return run


def onnxruntime_network(graph: bytes, *, threads: int | None = None) -> Network:
    """Open an ONNX graph with the optimizations that are on by themselves."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Float]) -> Float:
        logits: Float = session.run(["logits"], inputs)[0]
        return logits

    return run
