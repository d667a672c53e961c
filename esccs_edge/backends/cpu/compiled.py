"""Verified ONNX bytes -> models compiled by OpenVINO for this CPU, from the cache where possible.

Compiling a small INT8 model takes several times as long as loading what the compiler made, which
is most of a cold start; so that is kept, sealed like an engine, under a key of all it depends on.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ...contracts.manifest import Manifest
from ...contracts.tensor import Tensor
from ...errors import ArtifactError, BackendError, ManifestError
from ...system.cores import usable_cores
from ...system.cpu_features import ends_at_avx2
from ...system.forked_child import keep_in_children
from ...system.sealed_cache import Key, SealedCache
from .normalizations import spell_out_normalizations
from .openvino import ov
from .quantized_concats import keep_scales_of_concats
from .quantized_inputs import expose_quantized_inputs
from .signal_stack import kept_signal_stack

#: Counts up whenever the graph is rewritten in another way before it is compiled.
REWRITING = 3

#: Largest tensor in a graph: 64 channels of a patch of 2048 x 2048 pixels, 1 GiB as float32.
MAX_ELEMENTS = 1 << 28

#: How long to wait for another process that stores an entry.
LOCK_TIMEOUT_S = 5.0

_TYPES = {"float32": "f32", "uint8": "u8"}
_log = logging.getLogger("esccs_edge.cpu")


@dataclass(frozen=True)
class LoadedModel:
    """A model compiled for one batch size.

    Attributes:
        compiled: OpenVINO's compiled model.
        steps: Step of each input that is read as bytes, by name; see `quantized_inputs`.
    """

    compiled: Any
    steps: dict[str, float]


class CompiledModels:
    """One graph, compiled for each batch size and number of cores that a lane asks for.

    Args:
        content: ONNX file, already verified.
        name: Its name in the bundle.
        manifest: Contract that its inputs and outputs must fit.
        threads: Threads for inference and for preprocessing; None takes every core.
        hint: OpenVINO's inference precision; None leaves it the choice.
        keep: Use the cache.

    Attributes:
        cores: Threads in use.
        turn: Held while a single sample runs on all cores: two at once would compete for the same
            threads.

    Raises:
        ArtifactError: OpenVINO cannot read the model.
        ManifestError: Its inputs or outputs are not those of the manifest.
        BackendError: OpenVINO cannot compile it.
    """

    def __init__(
        self,
        content: bytes,
        name: str,
        manifest: Manifest,
        *,
        threads: int | None,
        hint: str | None,
        keep: bool,
    ) -> None:
        keep_in_children(self)
        self._graph = _Graph(content, name, manifest)
        self._threads = threads
        self._keep = keep
        self._options: dict[str, Any] = {}
        if threads is not None and threads < usable_cores():
            # OpenVINO binds threads to cores, in every process from the first on: two processes of
            # one thread each would share that core and leave the next one idle.
            self._options["ENABLE_CPU_PINNING"] = False
        if hint is not None:
            self._options["INFERENCE_PRECISION_HINT"] = hint
        self._closed = False
        self._models: dict[tuple[int, bool], LoadedModel] = {}
        self._loading = threading.Lock()
        self.turn = threading.Lock()
        with kept_signal_stack():
            self._core = ov.Core()
        single = self.get(1, single=True).compiled
        self.cores: int = single.get_property("INFERENCE_NUM_THREADS")

    def get(self, samples: int, *, single: bool = False) -> LoadedModel:
        """Return the model for parts of so many samples; compiled when first asked for.

        Args:
            samples: One of `lane.PART_SIZES`.
            single: One request at a time on all cores, instead of one on each core.

        Raises:
            BackendError: OpenVINO cannot compile it, or the models were closed.
        """
        with self._loading:
            if self._closed:
                raise BackendError("the CPU backend was closed")
            if (samples, single) not in self._models:
                self._models[samples, single] = self._load(samples, single)
            return self._models[samples, single]

    @property
    def device(self) -> str:
        """Name of the CPU."""
        return str(self._core.get_property("CPU", "FULL_DEVICE_NAME"))

    @property
    def float_type(self) -> str | None:
        """Number type of float layers, such as ``"f32"``; None after `close`."""
        if self._closed:
            return None
        compiled = self.get(1, single=True).compiled
        return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())

    def close(self) -> None:
        """Free the models. Idempotent."""
        with self._loading:
            self._closed = True
            self._models.clear()

    def _load(self, samples: int, single: bool) -> LoadedModel:
        options = dict(self._options)
        if single:
            options["PERFORMANCE_HINT"] = "LATENCY"
            if self._threads is not None:
                options["INFERENCE_NUM_THREADS"] = self._threads
        else:
            options["NUM_STREAMS"] = options["INFERENCE_NUM_THREADS"] = self.cores
        with kept_signal_stack():
            return _load_model(self._core, self._graph, samples, options, keep=self._keep)


@dataclass(frozen=True)
class _Graph:
    content: bytes
    name: str
    manifest: Manifest


def _load_model(
    core: ov.Core, graph: _Graph, samples: int, options: Mapping[str, Any], *, keep: bool
) -> LoadedModel:
    """Compile a model for batches of one size, or take it from the cache.

    OpenVINO leaves half of its work on layouts undone when the batch size is open.
    """
    cache = _open_cache() if keep else None
    key = _key(core, graph, samples, options)
    model = _from_cache(core, cache, key, options) if cache else None
    if model is None:
        model = _compile(core, graph, samples, options)
        if cache:
            _store(cache, key, model)
    return model


def _key(core: ov.Core, graph: _Graph, samples: int, options: Mapping[str, Any]) -> Key:
    tensors = graph.manifest.inputs | graph.manifest.outputs | graph.manifest.returned
    return {
        "kind": "openvino",
        "rewriting": REWRITING,
        "model": hashlib.sha256(graph.content).hexdigest(),
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "pairs": samples,
        "openvino": ov.get_version(),
        "device": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "capabilities": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "isa_limit": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "options": dict(options),
    }


def _open_cache() -> SealedCache | None:
    try:
        return SealedCache(lock_timeout_s=LOCK_TIMEOUT_S)
    except ArtifactError as error:
        _log.warning("Compiled models are not kept: %s", error)
        return None


def _from_cache(
    core: ov.Core, cache: SealedCache, key: Key, options: Mapping[str, Any]
) -> LoadedModel | None:
    entry = cache.load(key)
    if entry is None:
        return None
    steps, _, blob = entry.partition(b"\n")
    try:
        return LoadedModel(
            core.import_model(io.BytesIO(blob), "CPU", dict(options)), json.loads(steps)
        )
    except (RuntimeError, ValueError) as error:
        cache.reject(key, f"OpenVINO cannot load an entry: {error}")
        return None


def _store(cache: SealedCache, key: Key, model: LoadedModel) -> None:
    blob = model.compiled.export_model()
    blob = blob.getvalue() if isinstance(blob, io.BytesIO) else bytes(blob)
    try:
        cache.store(key, json.dumps(model.steps).encode() + b"\n" + blob)
    except BackendError as error:  # another process holds the lock; it stores the same
        _log.warning("A compiled model was not kept: %s", error)


def _compile(core: ov.Core, graph: _Graph, samples: int, options: Mapping[str, Any]) -> LoadedModel:
    manifest = graph.manifest
    try:
        model = core.read_model(graph.content, b"")
    except (RuntimeError, ValueError) as error:  # the latter where its message is no text
        raise ArtifactError(f"OpenVINO cannot read {graph.name}: {error}") from error
    _check_ports(model.inputs, manifest.inputs, graph.name, "inputs")
    _check_ports(model.outputs, manifest.outputs | manifest.returned, graph.name, "outputs")
    try:
        for result in model.get_results():
            if result.input_value(0).get_names().isdisjoint(manifest.returned):
                model.remove_result(result)
        model.reshape({name: [samples, *t.row] for name, t in manifest.inputs.items()})
        _check_sizes(model, graph.name)
        keep_scales_of_concats(model)
        if ends_at_avx2():
            spell_out_normalizations(model)
        model, steps = expose_quantized_inputs(model)
        return LoadedModel(core.compile_model(model, "CPU", dict(options)), steps)
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"OpenVINO cannot compile {graph.name}: {error}") from error


def _check_sizes(model: Any, name: str) -> None:
    """Refuse tensors that would fill the memory, before anything of their size is allocated."""
    for operation in model.get_ops():
        for port in operation.outputs():
            shape = port.get_partial_shape()
            if shape.is_dynamic or prod(axis.get_length() for axis in shape) > MAX_ELEMENTS:
                raise ArtifactError(
                    f"{name} computes a tensor of shape {shape} in {operation.get_friendly_name()}"
                    f", expected a known shape of at most {MAX_ELEMENTS} elements"
                )


def _check_ports(ports: Sequence[Any], expected: dict[str, Tensor], model: str, what: str) -> None:
    found = {name: _port(port) for port in ports for name in port.get_names()}
    wanted = {name: (_TYPES[t.dtype], *t.shape) for name, t in expected.items()}
    if len(ports) != len(expected) or any(found.get(n) != shape for n, shape in wanted.items()):
        raise ManifestError(
            f"{model} has {what} {found}, expected {wanted} from the manifest",
            hint="Export the bundle again, so that model and manifest agree",
        )


def _port(port: Any) -> tuple[str | int, ...]:
    shape = port.get_partial_shape()
    dimensions = ["N" if axis.is_dynamic else axis.get_length() for axis in shape]
    return (port.get_element_type().get_type_name(), *dimensions)
