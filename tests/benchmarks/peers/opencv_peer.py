"""OpenCV's own inference engine."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import STUDENT_ONNX

from .numpy_preprocess import Float
from .peer import NumpyPeer


class OpenCvPeer(NumpyPeer):
    """A `cv2.dnn` network; older versions of OpenCV cannot read a student and say so.

    Args:
        bundle: The student.
        threads: CPU threads; None for OpenCV's choice.
    """

    def __init__(self, bundle: Bundle, threads: int | None) -> None:
        super().__init__(bundle, STUDENT_ONNX)
        if threads is not None:
            cv2.setNumThreads(threads)
        self._network = cv2.dnn.readNetFromONNX(np.frombuffer(self._content, np.uint8))

    def infer(self, inputs: dict[str, Float]) -> Float:
        """See `NumpyPeer`."""
        for name, array in inputs.items():
            self._network.setInput(array, name)
        return np.asarray(self._network.forward("logits"), np.float32)

    def describe(self) -> dict[str, Any]:
        """See `Peer`."""
        return {"opencv": cv2.__version__}
