"""The portable backend: OpenVINO on the CPU.

A lone pair runs in the thread that asks for it, on all cores. A larger batch is cut into parts that
run side by side on one core each, since cores that work on the same small layers wait for each
other at the end of every one. Preprocessing writes into the tensors of the requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import openvino as ov

from .backend import Backend, Lane, LaneOutput
from .bundle import Bundle
from .crew import Crew
from .errors import BackendError, InputError
from .manifest import Manifest
from .onnx_file import refuse_external_data
from .openvino_model import LoadedModel, load_model
from .preprocess import preprocess, quantize
from .scene import Pixels, PixelStats, ScenePair
from .signal_stack import kept_signal_stack

#: Sizes of a part. Small patches are a third faster sixteen by sixteen than one by one.
PART_SIZES = (16, 8, 4, 2, 1)

#: Part of a lone pair.
_LONE = slice(0, 1)

#: What was seen in the patches of a part, optical and SAR.
_Seen = tuple[list[PixelStats], list[PixelStats]]


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
        self._threads = threads
        self.sar_is_linear = sar_is_linear
        self._content = content
        self._cache = cache
        self._options: dict[str, Any] = {}
        if precision is not None:
            self._options["INFERENCE_PRECISION_HINT"] = precision
        self._closed = False
        self._models: dict[tuple[int, bool], LoadedModel] = {}
        self._loading = threading.Lock()
        with kept_signal_stack():
            self._core = ov.Core()
        #: Held while a lone pair runs: two at once would fight for the same threads.
        self.turn = threading.Lock()
        self.cores: int = self.model(1, lone=True).compiled.get_property("INFERENCE_NUM_THREADS")
        self.crew = Crew(self.cores)

    def model(self, pairs: int, *, lone: bool = False) -> LoadedModel:
        """Return the model for parts of so many pairs; compiled when first asked for.

        Args:
            pairs: One of `PART_SIZES`.
            lone: One request at a time on all cores, instead of one on each core.

        Raises:
            ArtifactError: OpenVINO cannot read it.
            ManifestError: It is not that of the manifest.
            BackendError: OpenVINO cannot compile it, or the backend was closed.
        """
        with self._loading:
            if self._closed:
                raise BackendError("the CPU backend was closed")
            if (pairs, lone) not in self._models:
                self._models[pairs, lone] = self._load(pairs, lone)
            return self._models[pairs, lone]

    def _load(self, pairs: int, lone: bool) -> LoadedModel:
        options = dict(self._options)
        if lone:
            options["PERFORMANCE_HINT"] = "LATENCY"
            if self._threads is not None:
                options["INFERENCE_NUM_THREADS"] = self._threads
        else:
            options["NUM_STREAMS"] = options["INFERENCE_NUM_THREADS"] = self.cores
        with kept_signal_stack():
            return load_model(
                self._core, self._content, self.manifest, pairs, options, keep=self._cache
            )

    def open_lane(self) -> CpuLane:
        """Allocate input buffers for ``max_batch`` pairs and an inference request."""
        return CpuLane(self)

    def describe(self) -> dict[str, Any]:
        """Return device, OpenVINO version, arithmetic and threads."""
        compiled = None if self._closed else self.model(1, lone=True).compiled
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
        self.crew.close()
        with self._loading:
            self._closed = True
            self._models.clear()


class CpuLane(Lane):
    """Buffers for one batch and the OpenVINO requests that read them."""

    def __init__(self, backend: CpuBackend) -> None:
        self._backend = backend
        self._steps = backend.model(1, lone=True).steps
        # Allocated by OpenVINO, whose kernels like its own alignment.
        tensors = backend.manifest.inputs | backend.manifest.outputs
        self._tensors = {name: self._tensor(name, shape[1:]) for name, shape in tensors.items()}
        self._arrays = {name: tensor.data for name, tensor in self._tensors.items()}
        self._requests: dict[tuple[int, int, bool], Any] = {}
        self._batch: Sequence[ScenePair] = ()

    def start(self, batch: Sequence[ScenePair]) -> None:
        """Remember the batch, for the thread that will ask for its answers."""
        self._batch = batch

    def finish(self) -> LaneOutput:
        """Preprocess and infer: a lone pair here, the parts of a batch on the crew."""
        batch, self._batch = self._batch, ()
        found = self._share(batch, self._answer)
        done = slice(len(batch))
        return LaneOutput(
            self._arrays["logits"][done].copy(),
            self._arrays["gate"][done].copy(),
            [stats for optical, _ in found for stats in optical],
            [stats for _, sar in found for stats in sar],
        )

    def read(self, batch: Sequence[ScenePair]) -> None:
        """Preprocess a batch as `finish` does, and no more; tells how long that takes."""
        self._share(batch, self._read)

    def close(self) -> None:
        """Drop the buffers."""
        self._batch = ()
        self._requests, self._tensors, self._arrays = {}, {}, {}

    def _share(
        self, batch: Sequence[ScenePair], work: Callable[[Sequence[ScenePair], slice], _Seen]
    ) -> list[_Seen]:
        if len(batch) == 1:
            return [work(batch, _LONE)]
        cut = parts(len(batch), self._backend.cores)
        return self._backend.crew.share([partial(work, batch, part) for part in cut])

    def _read(self, batch: Sequence[ScenePair], part: slice) -> _Seen:
        """Preprocess a part of a batch into its rows."""
        optical = self._preprocess([pair.optical for pair in batch[part]], "optical", part)
        return optical, self._preprocess([pair.sar for pair in batch[part]], "sar", part)

    def _answer(self, batch: Sequence[ScenePair], part: slice) -> _Seen:
        """Fill in the outputs of a part; zeros where nothing is valid, without inference."""
        optical, sar = self._read(batch, part)
        if not any(stats.valid for stats in (*optical, *sar)):
            self._arrays["logits"][part] = self._arrays["gate"][part] = 0
            return optical, sar
        self._arrays["availability"][part] = [
            (here.availability, there.availability)
            for here, there in zip(optical, sar, strict=True)
        ]
        lone = len(batch) == 1
        request = self._request(part, lone)
        try:
            with self._backend.turn if lone else nullcontext():
                request.infer(share_outputs=True)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO inference failed: {error}") from error
        return optical, sar

    def _tensor(self, name: str, shape: tuple[Any, ...]) -> ov.Tensor:
        if name in self._steps:
            channels, height, width = shape
            shape = height, width, channels
        kind = ov.Type.u8 if name in self._steps else ov.Type.f32
        return ov.Tensor(kind, ov.Shape([self._backend.max_batch, *shape]))

    def _request(self, part: slice, lone: bool) -> Any:
        """Return the request over these rows of the buffers, which it keeps: binding takes long."""
        key = part.start, part.stop, lone
        request = self._requests.get(key)
        if request is None:
            model = self._backend.model(part.stop - part.start, lone=lone)
            request = model.compiled.create_infer_request()
            for name, array in self._arrays.items():
                request.set_tensor(name, ov.Tensor(array[part], shared_memory=True))
            self._requests[key] = request
        return request

    def _preprocess(self, images: list[Pixels | None], name: str, part: slice) -> list[PixelStats]:
        backend = self._backend
        spec = backend.manifest.optical if name == "optical" else backend.manifest.sar
        linear_to_db = name == "sar" and backend.sar_is_linear
        out = self._arrays[name][part]
        step = self._steps.get(name)
        if step is None:
            return preprocess(images, spec, out, linear_to_db=linear_to_db, threads=1)
        return quantize(images, spec, out, step, linear_to_db=linear_to_db, threads=1)


def parts(pairs: int, cores: int) -> Iterator[slice]:
    """Cut a batch into parts of known sizes, so that every core gets one if there are enough."""
    first = 0
    for size in PART_SIZES:
        while pairs - first >= size and size * cores < pairs + cores:
            yield slice(first, first + size)
            first += size
