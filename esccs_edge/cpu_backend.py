"""The portable backend: OpenVINO on the CPU.

Whoever asks for an answer computes it, one at a time, on all threads. A batch runs in parts of few
pairs, so that their pixels are still in the cache when the network reads them; preprocessing writes
them into the tensors of the request.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from .backend import Backend, Lane, LaneOutput
from .bundle import Bundle
from .errors import BackendError, InputError
from .manifest import Manifest
from .onnx_file import refuse_external_data
from .openvino_model import LoadedModel, load_model
from .preprocess import preprocess, quantize
from .scene import Pixels, PixelStats, ScenePair
from .signal_stack import kept_signal_stack

#: Sizes that a model is compiled for. Eight small patches together are a quarter faster than one
#: by one; more gain nothing, and large ones would leave the cache.
PART_SIZES = (8, 4, 2, 1)


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
        self.manifest = manifest
        self.threads = threads
        self.sar_is_linear = sar_is_linear
        #: Held while a request runs. All have the same threads, which two at once would fight for.
        self.turn = threading.Lock()
        # One stream over all cores: the lowest latency for one pair, and no less throughput, since
        # preprocessing of one lane overlaps with inference of the other.
        self._options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        if precision is not None:
            self._options["INFERENCE_PRECISION_HINT"] = precision
        self._content = content
        self._cache = cache
        self._loading = threading.Lock()
        self._closed = False
        self._models: dict[int, LoadedModel] = {}
        with kept_signal_stack():
            self._core = ov.Core()
        self.model(1)

    def model(self, pairs: int) -> LoadedModel:
        """Return the model for parts of so many pairs; compiled when first asked for.

        Raises:
            ArtifactError: OpenVINO cannot read it.
            ManifestError: It is not that of the manifest.
            BackendError: OpenVINO cannot compile it, or the backend was closed.
        """
        with self._loading, kept_signal_stack():
            if self._closed:
                raise BackendError("the CPU backend was closed")
            if pairs not in self._models:
                self._models[pairs] = load_model(
                    self._core,
                    self._content,
                    self.manifest,
                    pairs,
                    self._options,
                    keep=self._cache,
                )
            return self._models[pairs]

    def open_lane(self) -> CpuLane:
        """Allocate input buffers for ``max_batch`` pairs and an inference request."""
        return CpuLane(self)

    def describe(self) -> dict[str, Any]:
        """Return device, OpenVINO version, arithmetic and threads."""
        compiled = None if self._closed else self.model(1).compiled
        return {
            "backend": self.name,
            "device": self._core.get_property("CPU", "FULL_DEVICE_NAME"),
            "openvino": ov.get_version(),
            "model": self.manifest.model,
            "precision": compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            if compiled
            else None,
            "threads": compiled.get_property("INFERENCE_NUM_THREADS") if compiled else 0,
            "max_batch": self.max_batch,
        }

    def close(self) -> None:
        """Free the compiled models."""
        with self._loading:
            self._closed = True
            self._models.clear()


class CpuLane(Lane):
    """Buffers for one batch and the OpenVINO requests that read them."""

    def __init__(self, backend: CpuBackend) -> None:
        self._backend = backend
        manifest = backend.manifest
        self._steps = backend.model(1).steps
        # Allocated by OpenVINO, whose kernels like its own alignment.
        self._tensors = {
            name: self._tensor(name, shape[1:])
            for name, shape in (manifest.inputs | manifest.outputs).items()
        }
        self._arrays = {name: tensor.data for name, tensor in self._tensors.items()}
        self._requests: dict[tuple[int, int], Any] = {}
        self._request(0, 1)
        self._batch: Sequence[ScenePair] = ()

    def start(self, batch: Sequence[ScenePair]) -> None:
        """Remember the batch, for the thread that will ask for its answers."""
        self._batch = batch

    def finish(self) -> LaneOutput:
        """Preprocess and infer part by part, in the calling thread."""
        batch, self._batch = self._batch, ()
        optical: list[PixelStats] = []
        sar: list[PixelStats] = []
        for part in parts(len(batch)):
            stats = self.read(batch, part)
            self._infer(part, *stats)
            optical += stats[0]
            sar += stats[1]
        done = slice(len(batch))
        logits, gate = self._arrays["logits"][done].copy(), self._arrays["gate"][done].copy()
        return LaneOutput(logits, gate, optical, sar)

    def read(
        self, batch: Sequence[ScenePair], part: slice
    ) -> tuple[list[PixelStats], list[PixelStats]]:
        """Preprocess a part of a batch into its rows; return what was seen, optical first."""
        optical = self._preprocess([pair.optical for pair in batch[part]], "optical", part)
        return optical, self._preprocess([pair.sar for pair in batch[part]], "sar", part)

    def close(self) -> None:
        """Drop the buffers."""
        self._batch = ()
        self._requests, self._tensors, self._arrays = {}, {}, {}

    def _tensor(self, name: str, shape: tuple[Any, ...]) -> ov.Tensor:
        if name in self._steps:
            channels, height, width = shape
            shape = height, width, channels
        kind = ov.Type.u8 if name in self._steps else ov.Type.f32
        return ov.Tensor(kind, ov.Shape([self._backend.max_batch, *shape]))

    def _request(self, first: int, size: int) -> Any:
        """Return the request over these rows of the buffers, which it keeps: binding takes long."""
        request = self._requests.get((first, size))
        if request is None:
            request = self._backend.model(size).compiled.create_infer_request()
            for name, array in self._arrays.items():
                rows = array[first : first + size]
                request.set_tensor(name, ov.Tensor(rows, shared_memory=True))
            self._requests[first, size] = request
        return request

    def _preprocess(self, images: list[Pixels | None], name: str, part: slice) -> list[PixelStats]:
        backend = self._backend
        spec = backend.manifest.optical if name == "optical" else backend.manifest.sar
        linear_to_db = name == "sar" and backend.sar_is_linear
        threads = backend.threads
        out = self._arrays[name][part]
        step = self._steps.get(name)
        if step is None:
            return preprocess(images, spec, out, linear_to_db=linear_to_db, threads=threads)
        return quantize(images, spec, out, step, linear_to_db=linear_to_db, threads=threads)

    def _infer(self, part: slice, optical: Sequence[PixelStats], sar: Sequence[PixelStats]) -> None:
        """Fill in the outputs of a part; zeros where nothing is valid, without inference."""
        if not any(stats.valid for stats in (*optical, *sar)):
            self._arrays["logits"][part] = self._arrays["gate"][part] = 0
            return
        self._arrays["availability"][part] = [
            (here.availability, there.availability)
            for here, there in zip(optical, sar, strict=True)
        ]
        request = self._request(part.start, len(optical))
        try:
            with self._backend.turn:
                request.infer(share_outputs=True)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO inference failed: {error}") from error


def parts(pairs: int) -> Iterator[slice]:
    """Cut a batch into parts of the sizes that the model is compiled for, larger ones first."""
    first = 0
    for size in PART_SIZES:
        while pairs - first >= size:
            yield slice(first, first + size)
            first += size
