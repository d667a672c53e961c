"""The shipped graph through torch: raw pixels in pinned memory in, labels on the host out.

The ONNX graph, whose batch norms are folded, becomes a plain torch function of ATen calls, so that
nothing of ours runs between them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from support.torch_engine import TorchGraph
from torch.fx.experimental.proxy_tensor import make_fx

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import FP16_ONNX, STUDENT_ONNX
from esccs_edge.contracts.values import Sample
from esccs_edge.runtime.counters import percentiles_ms

#: TF32 is off, as in our engines.
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


class TorchPeer:
    """One batch, again and again.

    Args:
        bundle: Whose graph; one with FP16 inside for the ways with ``fp16``.
        samples: The batch; every modality is there, in one type.
        way: ``"eager"`` or ``"compile"``, and the precision.
        layout: ``"contiguous"`` or ``"channels_last"``.
        device: Where; ``"cpu"`` only to see that it is right.
    """

    def __init__(
        self, bundle: Bundle, samples: Sequence[Sample], way: str, layout: str, device: str = "cuda"
    ) -> None:
        self._specs, self._device = bundle.manifest.modalities, device
        self._order = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self._host = {
            name: torch.from_numpy(np.stack([sample.pixels[name] for sample in samples]))
            for name in self._specs
        }
        if device == "cuda":
            self._host = {name: pixels.pin_memory() for name, pixels in self._host.items()}
        self._full = torch.ones(len(samples), len(self._specs), device=device)
        self._tables = {
            name: [torch.tensor(v, device=device).reshape(1, -1, 1, 1) for v in (s.mean, s.std)]
            for name, s in self._specs.items()
        }
        graph = TorchGraph(bundle.read(FP16_ONNX if "fp16" in way else STUDENT_ONNX), device)
        names = [*self._specs, bundle.manifest.availability]

        def logits(*tensors: torch.Tensor) -> torch.Tensor:
            return graph(dict(zip(names, tensors, strict=True)))["logits"]

        with torch.inference_mode():
            self._network = make_fx(logits)(*self._inputs())
        if "compile" in way:
            self._network = torch.compile(self._network, mode="reduce-overhead")  # CUDA graphs

    def __call__(self) -> np.ndarray:
        """Return the label of each sample."""
        return self.logits().argmax(1).cpu().numpy()

    @torch.inference_mode()
    def logits(self) -> torch.Tensor:
        """Return what the network says, ``(N, K)``, where it was computed."""
        return self._network(*self._inputs())

    def latency_ms(self, rounds: int) -> dict[str, float]:
        """Percentiles of the time of one call."""
        times = []
        for _ in range(rounds + 20):
            start = time.perf_counter()
            self()
            times.append(time.perf_counter() - start)
        return percentiles_ms(times[20:])

    def _inputs(self) -> list[torch.Tensor]:
        return [*(self._ready(name) for name in self._specs), self._full]

    def _ready(self, name: str) -> torch.Tensor:
        spec, (mean, std) = self._specs[name], self._tables[name]
        value = self._host[name].to(self._device, non_blocking=True).float()
        value = value * spec.dn_scale if spec.dn_scale else value
        value = (value.clamp(*spec.clip) - mean) / std
        return value.contiguous(memory_format=self._order)
