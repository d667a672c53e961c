"""The portable backend: OpenVINO on the CPU.

One compiled model with a dynamic batch axis serves every lane. A lane's input tensors are views of
the arrays that preprocessing writes into, so pixels are read once and written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from .backend import Backend, Lane, LaneOutput
from .bundle import Bundle
from .errors import BackendError, InputError
from .manifest import Manifest
from .onnx_file import refuse_external_data
from .openvino_model import load_model
from .preprocess import preprocess
from .scene import PixelStats, ScenePair
from .signal_stack import kept_signal_stack


class CpuBackend(Backend):
    """The model of a bundle, compiled for this CPU.

    Args:
        bundle: Where the model is read from, through its recorded digest.
        manifest: Contract to obey; usually ``bundle.manifest``, perhaps with another ``dn_offset``.
        max_batch: Most pairs one lane takes at once.
        threads: Threads for inference and for preprocessing; None takes every core.
        sar_is_linear: SAR pixels are linear sigma0 and are converted to dB.
        precision: ``"f32"`` for exact float arithmetic where parity is measured; None lets OpenVINO
            choose, which is bfloat16 on CPUs that have it.
        cache: Keep the compiled model in the user's cache folder for the next start.

    Raises:
        ArtifactError: The model file is missing, altered, unreadable or not self-contained.
        ManifestError: Its inputs or outputs are not those of the manifest.
    """

    name = "cpu"

    def __init__(
        self,
        bundle: Bundle,
        manifest: Manifest,
        *,
        max_batch: int,
        threads: int | None = None,
        sar_is_linear: bool = False,
        precision: str | None = None,
        cache: bool = True,
    ) -> None:
        if precision not in (None, "f32"):
            raise InputError(f"precision is {precision!r}, expected None or 'f32'")
        content = bundle.read(manifest.model)
        refuse_external_data(content, manifest.model)
        self.max_batch = max_batch
        self._manifest = manifest
        self._threads = threads
        self._sar_is_linear = sar_is_linear
        # One stream over all cores: the lowest latency for one pair, and no less throughput, since
        # preprocessing of one lane overlaps with inference of the other.
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        if precision is not None:
            options["INFERENCE_PRECISION_HINT"] = precision
        with kept_signal_stack():
            self._core = ov.Core()
            self._compiled = load_model(self._core, content, manifest, options, keep=cache)

    def open_lane(self) -> Lane:
        """Allocate input buffers for ``max_batch`` pairs and an inference request."""
        if self._compiled is None:
            raise BackendError("the CPU backend was closed")
        return CpuLane(
            self._compiled.create_infer_request(),
            self._manifest,
            self.max_batch,
            self._threads,
            self._sar_is_linear,
        )

    def describe(self) -> dict[str, Any]:
        """Return device, OpenVINO version, arithmetic and threads."""
        compiled = self._compiled
        return {
            "backend": self.name,
            "device": self._core.get_property("CPU", "FULL_DEVICE_NAME"),
            "openvino": ov.get_version(),
            "model": self._manifest.model,
            "precision": compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            if compiled
            else None,
            "threads": compiled.get_property("INFERENCE_NUM_THREADS") if compiled else 0,
            "max_batch": self.max_batch,
        }

    def close(self) -> None:
        """Free the compiled model."""
        self._compiled = None


class CpuLane(Lane):
    """Buffers for one batch and the OpenVINO request that reads them."""

    def __init__(
        self,
        request: Any,
        manifest: Manifest,
        max_batch: int,
        threads: int | None,
        sar_is_linear: bool,
    ) -> None:
        self._request = request
        self._manifest = manifest
        self._threads = threads
        self._sar_is_linear = sar_is_linear
        # Allocated by OpenVINO, whose kernels like its own alignment.
        self._tensors = {
            name: ov.Tensor(ov.Type.f32, ov.Shape([max_batch, *shape[1:]]))
            for name, shape in (manifest.inputs | manifest.outputs).items()
        }
        self._arrays = {name: tensor.data for name, tensor in self._tensors.items()}
        self._bound = 0
        self._stats: tuple[list[PixelStats], list[PixelStats]] = ([], [])
        self._running = False

    def start(self, batch: Sequence[ScenePair]) -> None:
        """Preprocess into the bound tensors and start inference, unless nothing is valid."""
        self._run(batch, self._request.start_async)

    def answer(self, batch: Sequence[ScenePair]) -> LaneOutput:
        """Do all in the calling thread, where the pixels are in the nearest cache already."""
        self._run(batch, partial(self._request.infer, share_outputs=True))
        return self.finish()

    def _run(self, batch: Sequence[ScenePair], infer: Callable[[], object]) -> None:
        optical = preprocess(
            [pair.optical for pair in batch],
            self._manifest.optical,
            self._arrays["optical"],
            threads=self._threads,
        )
        sar = preprocess(
            [pair.sar for pair in batch],
            self._manifest.sar,
            self._arrays["sar"],
            linear_to_db=self._sar_is_linear,
            threads=self._threads,
        )
        self._stats = optical, sar
        availability = self._arrays["availability"][: len(batch)]
        availability[:] = [
            (here.availability, there.availability)
            for here, there in zip(optical, sar, strict=True)
        ]
        if any(stats.valid for stats in (*optical, *sar)):
            self._bind(len(batch))
            # Set first: whatever interrupts this line, the buffers are not freed under a request.
            self._running = True
            self._call(infer)

    def finish(self) -> LaneOutput:
        """Wait for inference and copy its outputs out of the buffers."""
        optical, sar = self._stats
        if not self._running:
            classes = len(self._manifest.classes)
            return LaneOutput(_zeros(len(optical), classes), _zeros(len(optical), 2), optical, sar)
        self._call(self._request.wait)
        self._running = False
        pairs = len(optical)
        logits, gate = self._arrays["logits"][:pairs].copy(), self._arrays["gate"][:pairs].copy()
        return LaneOutput(logits, gate, optical, sar)

    def close(self) -> None:
        """Let a running inference end, then drop the buffers."""
        try:
            if self._running:
                self._call(self._request.wait)
        except BackendError:
            pass  # its answer is not wanted any more
        self._running = False
        self._request = None
        self._tensors, self._arrays = {}, {}

    def _bind(self, pairs: int) -> None:
        """Show the request the first ``pairs`` rows of each buffer."""
        if pairs == self._bound:
            return
        for name, array in self._arrays.items():
            self._request.set_tensor(name, ov.Tensor(array[:pairs], shared_memory=True))
        self._bound = pairs

    def _call(self, action: Any) -> None:
        try:
            action()
        except RuntimeError as error:
            self._running = False
            raise BackendError(f"OpenVINO inference failed: {error}") from error


def _zeros(rows: int, columns: int) -> npt.NDArray[np.float32]:
    return np.zeros((rows, columns), np.float32)
