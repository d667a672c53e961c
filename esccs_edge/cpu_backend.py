"""The portable backend: OpenVINO on the CPU.

A lone pair runs in the thread that asks for it, on all cores. A larger batch is cut into parts that
run side by side on one core each, since cores that work on the same small layers wait for each
other at the end of every one. Preprocessing writes into the tensors of the requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from .backend import Backend, Lane, LaneOutput
from .bundle import Bundle
from .errors import BackendError, InputError
from .manifest import Manifest
from .onnx_file import refuse_external_data
from .openvino_model import LoadedModel, load_model
from .openvino_runtime import ov
from .preprocess import preprocess, quantize
from .scene import Pixels, PixelStats, ScenePair
from .signal_stack import kept_signal_stack

#: Sizes of a part. Small patches are a third faster sixteen by sixteen than one by one.
PART_SIZES = (16, 8, 4, 2, 1)

#: Rows of the buffers beyond the largest batch; see `parts`.
SPARE_ROWS = 1

#: Part of a lone pair.
_LONE = slice(0, 1)

#: What was seen in the patches of a batch, optical and SAR.
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
        for array in self._arrays.values():
            array[-SPARE_ROWS:] = 0
        self._requests: dict[tuple[int, int, bool], Any] = {}
        self._batch: Sequence[ScenePair] = ()
        self._seen: _Seen = [], []
        self._running: list[Any] = []

    def start(self, batch: Sequence[ScenePair]) -> None:
        """Preprocess a batch and start its parts; a lone pair waits for `finish`."""
        self._forget()
        self._batch = batch
        if len(batch) == 1:
            return
        for share in shares(len(batch), self._backend.cores):
            for part in self._read(share):
                request = self._request(part, lone=False)
                # Noted first: whatever interrupts this, no buffer is freed under a request.
                self._running.append(request)
                _call(request.start_async)

    def finish(self) -> LaneOutput:
        """Wait for the parts of the batch, or do all for a lone pair."""
        if len(self._batch) == 1:
            for part in self._read(_LONE):
                request = self._request(part, lone=True)
                with self._backend.turn:
                    _call(request.infer)
        self._settle()
        done = slice(len(self._batch))
        self._batch = ()
        return LaneOutput(
            self._arrays["logits"][done].copy(), self._arrays["gate"][done].copy(), *self._seen
        )

    def read(self, batch: Sequence[ScenePair]) -> None:
        """Preprocess a batch and no more; tells how long that takes."""
        self._forget()
        self._batch = batch
        for share in shares(len(batch), self._backend.cores):
            self._read(share)

    def close(self) -> None:
        """Let what runs end, then drop the buffers."""
        self._forget()
        self._requests, self._tensors, self._arrays = {}, {}, {}

    def _forget(self) -> None:
        """Let what runs end; nobody wants it any more."""
        try:
            self._settle()
        except BackendError:
            pass  # nor its error
        self._batch, self._seen = (), ([], [])

    def _settle(self) -> None:
        """Wait for all requests that were started; raise the error of any, once all have ended."""
        failed: BackendError | None = None
        while self._running:
            try:
                _call(self._running[-1].wait)
            except BackendError as error:
                failed = error
            self._running.pop()
        if failed is not None:
            raise failed

    def _read(self, share: slice) -> list[slice]:
        """Preprocess pairs of the batch into their rows; return the parts that have any pixels."""
        pairs = self._batch[share]
        optical = self._preprocess([pair.optical for pair in pairs], "optical", share)
        sar = self._preprocess([pair.sar for pair in pairs], "sar", share)
        self._seen[0].extend(optical)
        self._seen[1].extend(sar)
        availability = [
            (here.availability, there.availability)
            for here, there in zip(optical, sar, strict=True)
        ]
        self._arrays["availability"][share] = availability
        if any(map(any, availability)):
            return list(parts(share, len(self._batch)))
        self._arrays["logits"][share] = self._arrays["gate"][share] = 0
        return []

    def _tensor(self, name: str, shape: tuple[Any, ...]) -> ov.Tensor:
        if name in self._steps:
            channels, height, width = shape
            shape = height, width, channels
        kind = ov.Type.u8 if name in self._steps else ov.Type.f32
        return ov.Tensor(kind, ov.Shape([self._backend.max_batch + SPARE_ROWS, *shape]))

    def _request(self, part: slice, *, lone: bool) -> Any:
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
            return preprocess(images, spec, out, linear_to_db=linear_to_db, threads=backend.cores)
        return quantize(images, spec, out, step, linear_to_db=linear_to_db, threads=backend.cores)


def _call(action: Callable[[], object]) -> None:
    try:
        action()
    except RuntimeError as error:
        raise BackendError(f"OpenVINO inference failed: {error}") from error


def shares(pairs: int, cores: int) -> list[slice]:
    """Deal a batch out to the cores, as evenly as it goes."""
    ends = [pairs * core // cores for core in range(cores + 1)]
    return [slice(first, last) for first, last in pairwise(ends) if first < last]


def parts(share: slice, pairs: int) -> Iterator[slice]:
    """Cut a share of a batch into parts of known sizes, large ones first.

    At the end of the batch, where no other's rows follow, a part may be one pair too long: that
    takes no longer than two or three small parts would.
    """
    first = share.start
    while (left := share.stop - first) > 0:
        spare = share.stop == pairs and left > 1
        size = next(size for size in PART_SIZES if size <= left + spare)
        yield slice(first, first + size)
        first += size
