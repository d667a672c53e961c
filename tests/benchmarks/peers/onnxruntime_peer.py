"""ONNX Runtime on its CPU provider, with the optimizations it has switched on by itself."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from esccs_edge.contracts.bundle import Bundle

from .numpy_preprocess import Float
from .peer import NumpyPeer


class OnnxRuntimePeer(NumpyPeer):
    """One session.

    Args:
        bundle: The student.
        threads: CPU threads; None for ONNX Runtime's choice.
        graph: ONNX file in the bundle.
    """

    def __init__(self, bundle: Bundle, threads: int | None, graph: str) -> None:
        super().__init__(bundle, graph)
        options = ort.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(
            self._content, options, providers=["CPUExecutionProvider"]
        )

    def infer(self, inputs: dict[str, Float]) -> Float:
        """See `NumpyPeer`."""
        logits: Float = self._session.run(["logits"], inputs)[0]
        return logits

    def describe(self) -> dict[str, Any]:
        """See `Peer`."""
        return {"onnxruntime": ort.__version__}
