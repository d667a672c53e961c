"""Torch on the CPU, eager or compiled, with the weights of the exported graph."""

from __future__ import annotations

from typing import Any

import torch

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import STUDENT_ONNX

from .numpy_preprocess import Float
from .onnx_to_torch import torch_module
from .peer import NumpyPeer


class TorchPeer(NumpyPeer):
    """The student as a torch module, channels last, which is what torch advises on CPUs.

    Args:
        bundle: The student.
        threads: CPU threads; None for torch's choice.
        is_compiled: Run through `torch.compile`, once for each batch size.
    """

    def __init__(self, bundle: Bundle, threads: int | None, is_compiled: bool) -> None:
        super().__init__(bundle, STUDENT_ONNX)
        if threads is not None:
            torch.set_num_threads(threads)
        module: Any = torch_module(self._content)
        module = module.to(memory_format=torch.channels_last)
        self._run = torch.compile(module, dynamic=False) if is_compiled else module
        self._is_compiled = is_compiled

    @torch.inference_mode()
    def infer(self, inputs: dict[str, Float]) -> Float:
        """See `NumpyPeer`."""
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        for name in ("optical", "sar"):
            tensors[name] = tensors[name].contiguous(memory_format=torch.channels_last)
        logits: Float = self._run(**tensors)[0].numpy()
        return logits

    def describe(self) -> dict[str, Any]:
        """See `Peer`."""
        return {"torch": torch.__version__, "compiled": self._is_compiled, "layout": "NHWC"}
