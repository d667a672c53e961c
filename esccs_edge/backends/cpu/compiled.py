"""Verified ONNX bytes -> a model compiled by OpenVINO for this CPU, from the cache if it was here.

Compiling a small INT8 model takes several times as long as loading what the compiler made, which
is most of a cold start; so that is kept, sealed like an engine, under a key of all it depends on.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...contracts.manifest import Manifest
from ...errors import ArtifactError, BackendError, ManifestError
from ...system.sealed_cache import EngineCache, Key
from .openvino import ov
from .quantized_inputs import expose_quantized_inputs

#: How long to wait for another process that stores an entry.
LOCK_TIMEOUT_S = 5.0

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


def load_model(
    core: ov.Core,
    content: bytes,
    manifest: Manifest,
    pairs: int,
    options: Mapping[str, Any],
    *,
    keep: bool,
) -> LoadedModel:
    """Compile a model for batches of one size, or take it from the cache.

    Args:
        core: The OpenVINO runtime.
        content: ONNX file, already verified.
        manifest: Contract that its inputs and outputs must fit.
        pairs: Size of a batch. OpenVINO leaves half of its work on layouts undone when it is open.
        options: Compile options of OpenVINO.
        keep: Use the cache.

    Raises:
        ArtifactError: OpenVINO cannot read the model.
        ManifestError: Inputs or outputs are not those of the manifest.
        BackendError: OpenVINO cannot compile the model.
    """
    cache = _open_cache() if keep else None
    key = _key(core, content, manifest, pairs, options)
    model = _from_cache(core, cache, key, options) if cache else None
    if model is None:
        model = _compile(core, content, manifest, pairs, options)
        if cache:
            _keep(cache, key, model)
    return model


def _key(
    core: ov.Core, content: bytes, manifest: Manifest, pairs: int, options: Mapping[str, Any]
) -> Key:
    tensors = manifest.inputs | manifest.outputs
    return {
        "kind": "openvino",
        "model": hashlib.sha256(content).hexdigest(),
        "tensors": {name: list(shape) for name, shape in tensors.items()},
        "pairs": pairs,
        "openvino": ov.get_version(),
        "device": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "capabilities": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "options": dict(options),
    }


def _open_cache() -> EngineCache | None:
    try:
        return EngineCache(lock_timeout_s=LOCK_TIMEOUT_S)
    except ArtifactError as error:
        _log.warning("Compiled models are not kept: %s", error)
        return None


def _from_cache(
    core: ov.Core, cache: EngineCache, key: Key, options: Mapping[str, Any]
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


def _keep(cache: EngineCache, key: Key, model: LoadedModel) -> None:
    blob = model.compiled.export_model()
    blob = blob.getvalue() if isinstance(blob, io.BytesIO) else bytes(blob)
    try:
        cache.store(key, json.dumps(model.steps).encode() + b"\n" + blob)
    except BackendError as error:  # another process holds the lock; it stores the same
        _log.warning("A compiled model was not kept: %s", error)


def _compile(
    core: ov.Core, content: bytes, manifest: Manifest, pairs: int, options: Mapping[str, Any]
) -> LoadedModel:
    try:
        model = core.read_model(content, b"")
    except RuntimeError as error:
        raise ArtifactError(f"OpenVINO cannot read {manifest.model}: {error}") from error
    _check_ports(model.inputs, manifest.inputs, manifest.model, "inputs")
    _check_ports(model.outputs, manifest.outputs, manifest.model, "outputs")
    try:
        model.reshape({name: [pairs, *shape[1:]] for name, shape in manifest.inputs.items()})
        model, steps = expose_quantized_inputs(model)
        return LoadedModel(core.compile_model(model, "CPU", dict(options)), steps)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO cannot compile {manifest.model}: {error}") from error


def _check_ports(
    ports: Sequence[Any], expected: dict[str, tuple[str | int, ...]], model: str, what: str
) -> None:
    found = {name: _port(port) for port in ports for name in port.get_names()}
    wanted = {name: ("f32", *shape) for name, shape in expected.items()}
    if len(ports) != len(expected) or any(found.get(n) != shape for n, shape in wanted.items()):
        raise ManifestError(
            f"{model} has {what} {found}, expected {wanted} from the manifest",
            hint="Export the bundle again, so that model and manifest agree",
        )


def _port(port: Any) -> tuple[str | int, ...]:
    shape = port.get_partial_shape()
    dimensions = ["N" if axis.is_dynamic else axis.get_length() for axis in shape]
    return (port.get_element_type().get_type_name(), *dimensions)
