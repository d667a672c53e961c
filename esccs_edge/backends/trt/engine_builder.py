"""An engine for one bundle on one GPU: from the cache, or built in the ways that may work here.

Some libraries refuse the first way on some GPUs. Each way has its own entry in the cache, so that
a later start tries the same ones in the same order and finds the one that worked.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, replace
from typing import Any

from ...contracts.bundle import Bundle
from ...contracts.manifest import Manifest
from ...cuda.device import Device
from ...cuda.probe import probe_driver
from ...errors import BackendError, Remedy
from ...power import nvpmodel_mode
from ...system.sealed_cache import Key, SealedCache
from .build import BuildCallback, BuildOptions, can_be_typed_weakly
from .build_apart import build_apart
from .library import RTX_TARGETS, Flavor, LoadedEngine, load_engine

_log = logging.getLogger("esccs_edge.tensorrt")


class EngineBuilder:
    """Builds with the device active.

    Attributes:
        key: What the engine depends on.
        options: The way in which it was built.
    """

    def __init__(
        self,
        bundle: Bundle,
        onnx: bytes,
        manifest: Manifest,
        flavor: Flavor,
        device: Device,
        progress: BuildCallback | None,
    ) -> None:
        self._onnx, self._manifest, self._flavor = onnx, manifest, flavor
        self._progress = progress
        self._machine = machine_key(flavor, device)
        self._model = {
            "kind": "engine",
            "bundle": bundle.digest,
            "onnx": hashlib.sha256(onnx).hexdigest(),
        }
        self._ways = ways_to_build(flavor, onnx, manifest, device.compute_capability)
        self.options = self._ways[0]

    @property
    def key(self) -> Key:
        """Under which the engine is kept."""
        return {**self._machine, **self._model, "options": asdict(self.options)}

    def load_or_build(self, cache: SealedCache) -> LoadedEngine:
        """Return the loaded engine; one that this GPU or library refuses is built again, once.

        Raises:
            BackendError: No way led to an engine; the first reason counts.
        """
        first: BackendError | None = None
        for way in self._ways:
            self.options = way
            try:
                loaded = self._load_or_build(cache)
            except BackendError as error:
                if error.action in (Remedy.RESTART, Remedy.SMALLER_BATCH):
                    raise
                first = first or error
                _log.warning("No engine by %s: %s", _words(way), error)
                continue
            if first is not None:
                _log.warning("The engine was built by %s instead", _words(way))
            return loaded
        assert first is not None
        raise first

    def _load_or_build(self, cache: SealedCache) -> LoadedEngine:
        plan = cache.get(self.key, lambda: self._build(cache))
        try:
            return load_engine(self._flavor, plan)
        except BackendError as error:
            if error.action is not Remedy.REBUILD:
                raise
            cache.reject(self.key, error.message)
        return load_engine(self._flavor, cache.get(self.key, lambda: self._build(cache)))

    def _build(self, cache: SealedCache) -> bytes:
        timings = {**self._machine, "kind": "timing cache"}
        built = build_apart(
            self._flavor,
            self._onnx,
            self._manifest,
            self.options,
            progress=self._progress,
            timing_cache=cache.load(timings),
        )
        if built.timing_cache is not None:
            cache.store(timings, built.timing_cache)
        return built.plan


def machine_key(flavor: Flavor, device: Device) -> dict[str, Any]:
    """Return what of library, GPU, driver and board an engine depends on.

    A name and a compute capability do not identify a GPU: every Orin has the same, and a power
    mode changes how many multiprocessors it has.
    """
    return {
        "flavor": flavor.name,
        "version": flavor.version,
        "gpu": device.name,
        "compute_capability": device.compute_capability,
        "traits": device.traits(),
        "power_mode": nvpmodel_mode(),
        "driver": probe_driver().version,
    }


def ways_to_build(
    flavor: Flavor, onnx: bytes, manifest: Manifest, compute_capability: str
) -> list[BuildOptions]:
    """Return in which ways to try, best first.

    RTX builds for this GPU where it lists it; its default set of targets ("and later", as NVIDIA
    puts it) follows, and is all there is for a GPU that it does not list. A quantized graph may be
    refused in a strongly typed network by TensorRT before 10.12; weakly typed, its Q/DQ still
    decide what is INT8, and all else stays float32.
    """
    plain = BuildOptions(batch=manifest.batch)
    portable = replace(plain, target="portable")
    if flavor.name == "rtx":
        return [plain, portable] if compute_capability in RTX_TARGETS else [portable]
    if b"QuantizeLinear" in onnx and can_be_typed_weakly(flavor.trt):
        return [plain, replace(plain, typing="weak")]
    return [plain]


def _words(way: BuildOptions) -> str:
    return f"target {way.target!r} with {way.typing} typing"
