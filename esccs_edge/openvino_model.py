"""Verified ONNX bytes -> a model compiled by OpenVINO for this CPU, from the cache if it was here.

Compiling a small INT8 model takes several times as long as loading what the compiler made, which
is most of a cold start; so that is kept, sealed like an engine, under a key of all it depends on.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import openvino as ov

from .engine_cache import EngineCache, Key
from .errors import ArtifactError, BackendError, ManifestError
from .manifest import Manifest

#: How long to wait for another process that stores an entry.
LOCK_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


def load_model(
    core: ov.Core, content: bytes, manifest: Manifest, options: Mapping[str, Any], *, keep: bool
) -> Any:
    """Return the compiled model.

    Args:
        core: The OpenVINO runtime.
        content: ONNX file, already verified.
        manifest: Contract that its inputs and outputs must fit.
        options: Compile options of OpenVINO.
        keep: Use the cache.

    Raises:
        ArtifactError: OpenVINO cannot read the model.
        ManifestError: Inputs or outputs are not those of the manifest.
        BackendError: OpenVINO cannot compile the model.
    """
    cache = _open_cache() if keep else None
    key = _key(core, content, options)
    model = _from_cache(core, cache, key, options) if cache else None
    if model is None:
        model = _compile(core, content, manifest, options)
        if cache:
            _keep(cache, key, model)
    _check_ports(model.inputs, manifest.inputs, manifest.model, "inputs")
    _check_ports(model.outputs, manifest.outputs, manifest.model, "outputs")
    return model


def _key(core: ov.Core, content: bytes, options: Mapping[str, Any]) -> Key:
    return {
        "kind": "openvino",
        "model": hashlib.sha256(content).hexdigest(),
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
) -> Any | None:
    blob = cache.load(key)
    if blob is None:
        return None
    try:
        return core.import_model(io.BytesIO(blob), "CPU", dict(options))
    except RuntimeError as error:
        cache.reject(key, f"OpenVINO cannot load an entry: {error}")
        return None


def _keep(cache: EngineCache, key: Key, model: Any) -> None:
    blob = model.export_model()
    try:
        cache.store(key, blob.getvalue() if isinstance(blob, io.BytesIO) else bytes(blob))
    except BackendError as error:  # another process holds the lock; it stores the same
        _log.warning("A compiled model was not kept: %s", error)


def _compile(core: ov.Core, content: bytes, manifest: Manifest, options: Mapping[str, Any]) -> Any:
    try:
        model = core.read_model(content, b"")
    except RuntimeError as error:
        raise ArtifactError(f"OpenVINO cannot read {manifest.model}: {error}") from error
    try:
        return core.compile_model(model, "CPU", dict(options))
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
