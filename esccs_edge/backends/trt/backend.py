"""The GPU backend: a bundle's model as one TensorRT engine that several lanes share.

The engine comes from this user's cache, or is built from the verified ONNX and kept there. The
whole network is in it; each lane runs it with buffers of its own.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...contracts.bundle import Bundle
from ...contracts.bundle_files import (
    MODEL_FILES,
    Precision,
    require_graph,
    require_precision,
)
from ...contracts.manifest import Manifest
from ...cuda.owners import Device
from ...cuda.probe import probe_driver
from ...errors import BackendError, ClosedError, InputError, Remedy
from ...system.sealed_cache import SealedCache
from ..base import Backend, Lane
from .buffers import Allocator
from .build import BuildCallback, BuildOptions, build_plan
from .kernel_cache import JitCache
from .lane import LaneOptions, TrtLane
from .library import Flavor, FlavorName, LoadedEngine, load_engine, load_flavor, pick_flavor
from .memory_budget import MemoryBudget, limit_of
from .pixel_kernels import load_fatbin


class TrtBackend(Backend):
    """The model of a bundle on one NVIDIA GPU.

    Args:
        bundle: Where the model is read from, through its recorded digest.
        manifest: Contract to obey; usually ``bundle.manifest``, perhaps with another ``dn_offset``.
        max_batch: Most samples one lane takes at once; no more than the manifest's batch profile.
        precision: Which graph of the bundle to run, ``"fp32"``, ``"fp16"`` or ``"int8"``;
            ``"auto"`` is the manifest's model.
        flavor: TensorRT library; None is ``tensorrt`` where installed, else ``rtx``.
        graph_batches: Batch sizes to run as CUDA graphs; None is 1 and ``max_batch``.
        ordinal: Which GPU.
        cache: Where engines are kept; None is the user's cache folder.
        memory: Most device memory that all lanes may take, as a share of what is free now (up to 1)
            or in bytes; None is what ``ESCCS_GPU_MEMORY`` says, or no limit.
        wait: How a thread waits for a batch. ``"block"`` sleeps; ``"spin"`` keeps a core busy and
            may answer a little earlier (where cores are scarce, and on Jetson, the driver may sleep
            all the same). None is what ``ESCCS_GPU_WAIT`` says, or ``"block"``.
        progress: Called with ``(phase, steps_done, steps)`` when an engine has to be built.

    Attributes:
        device: The GPU.

    Raises:
        InputError: ``memory`` is no positive number, ``wait`` no known way, or ``precision`` no
            known word.
        ArtifactError: The model is missing, altered or does not fit the manifest.
        MissingDependencyError: TensorRT or a CUDA binding is not installed.
        BackendError: There is no GPU, ``precision`` is ``"bf16"``, which no graph has, or
            TensorRT cannot build or load the engine.
        CudaError: The driver refused; perhaps there is too little memory.
    """

    name = "tensorrt"

    def __init__(
        self,
        bundle: Bundle,
        manifest: Manifest,
        *,
        max_batch: int,
        precision: Precision = "auto",
        flavor: FlavorName | None = None,
        graph_batches: Sequence[int] | None = None,
        ordinal: int = 0,
        cache: SealedCache | None = None,
        memory: float | None = None,
        wait: str | None = None,
        progress: BuildCallback | None = None,
    ) -> None:
        wait = _way_of_waiting(wait)
        self.max_batch = min(max_batch, manifest.batch.max)
        self._manifest = manifest
        self._model = _model_file(manifest, precision)
        onnx = bundle.read(self._model)
        self._flavor = load_flavor(flavor) if flavor else pick_flavor()
        self._lanes: list[TrtLane] = []
        self._loaded: LoadedEngine | None = None
        self._jit: JitCache | None = None
        self.device = Device.open(ordinal)
        try:
            with self.device.active():
                budget = MemoryBudget(limit_of(memory, self.device.free_bytes()))
                self._options = LaneOptions(
                    max_batch=self.max_batch,
                    graph_batches=self._graph_batches(graph_batches),
                    mapped=self.device.integrated,
                    budget=budget,
                    wait=wait,
                )
                builder = EngineBuilder(bundle, onnx, manifest, self._flavor, self.device, progress)
                engines = cache or SealedCache()
                self._loaded = builder.load_or_build(engines)
                self._jit = JitCache.attach(self._loaded, engines, builder.key)
                module = self.device.module(load_fatbin())
                self._kernels = (
                    module.kernel("esccs_preprocess_f32"),
                    module.kernel("esccs_availability"),
                )
        except BaseException:
            self.close()
            raise
        _close_at_exit(self)

    def open_lane(self) -> Lane:
        """Allocate streams, buffers and the engine's activations.

        Raises:
            BackendError: It would exceed the memory budget.
            CudaError: The driver refused; perhaps there is too little memory.
        """
        if self._loaded is None:
            raise ClosedError("the TensorRT backend was closed")
        make = Allocator(self.device, self._options.budget)
        with self.device.active():
            try:
                lane = TrtLane(make, self._loaded, self._kernels, self._manifest, self._options)
            except BaseException:
                make.settle()
                make.free()
                raise
        self._lanes = [*(known for known in self._lanes if not known.closed), lane]
        return lane

    def describe(self) -> dict[str, Any]:
        """Return GPU, libraries, model and how lanes work."""
        described: dict[str, Any] = {
            "backend": self.name,
            "flavor": self._flavor.name,
            "tensorrt": self._flavor.version,
            "model": self._model,
            "precision": next((p for p, name in MODEL_FILES.items() if name == self._model), None),
            "max_batch": self.max_batch,
        }
        if self._loaded is None:
            return described
        with self.device.active():
            return {
                **described,
                "device": self.device.name,
                "compute_capability": self.device.compute_capability,
                "integrated": self.device.integrated,
                "driver": probe_driver().version,
                "cuda_provider": self.device.driver.name,
                "aux_streams": self._loaded.engine.num_aux_streams,
                "copies": not self._options.mapped,
                "graph_batches": sorted(self._options.graph_batches),
                "wait": self._options.wait,
                "free_device_bytes": self.device.free_bytes(),
                "lane_device_bytes": self._options.budget.used,
                "lane_device_bytes_limit": self._options.budget.limit,
            }

    def layers(self) -> list[dict[str, Any]]:
        """Return what the engine inspector reports of each layer of the engine that runs here."""
        if self._loaded is None:
            raise ClosedError("the TensorRT backend was closed")
        with self.device.active():
            return self._loaded.layers()

    def close(self) -> None:
        """Free lanes that are still open, then the engine, then the device.

        Idempotent; a forked child frees nothing, since all of it is the parent's.
        """
        if not self.device.is_ours:
            return
        for lane in self._lanes:
            lane.close()
        if self._loaded is not None:
            with self.device.active():  # TensorRT frees device memory here
                if self._jit is not None and not self._loaded.lost:
                    self._jit.keep()
                self._loaded.release()
            self._loaded = self._jit = None
        self.device.close()

    def __del__(self) -> None:
        """Free the GPU also where `close` is not called, as when a second lane was refused."""
        if hasattr(self, "device"):
            self.close()

    def _graph_batches(self, wanted: Sequence[int] | None) -> frozenset[int]:
        if wanted is None:
            wanted = (1, self.max_batch) if self.device.driver.has_graphs else ()
        elif wanted and not self.device.driver.has_graphs:
            raise BackendError(
                f"CUDA graphs were asked for, but {self.device.driver.name} has none",
                hint="Set ESCCS_CUDA=cuda-python, or graph_batches=()",
            )
        return frozenset(wanted)


class EngineBuilder:
    """An engine from the cache, or built from the ONNX and kept there.

    Attributes:
        key: What the engine depends on.
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
        self._build_options = BuildOptions(batch=manifest.batch)
        self._machine = {
            "flavor": flavor.name,
            "version": flavor.version,
            "gpu": device.name,
            "compute_capability": device.compute_capability,
            "driver": probe_driver().version,
        }
        self.key = {
            **self._machine,
            "kind": "engine",
            "bundle": bundle.digest,
            "onnx": hashlib.sha256(onnx).hexdigest(),
            "options": asdict(self._build_options),
        }

    def load_or_build(self, cache: SealedCache) -> LoadedEngine:
        """Return the loaded engine; one that this GPU or library refuses is built again, once."""
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
        built = build_plan(
            self._flavor,
            self._onnx,
            self._manifest,
            self._build_options,
            progress=self._progress,
            timing_cache=cache.load(timings),
        )
        if built.timing_cache is not None:
            cache.store(timings, built.timing_cache)
        return built.plan


def _model_file(manifest: Manifest, precision: Precision) -> str:
    require_precision(precision)
    if precision == "auto":
        return manifest.model
    if precision == "bf16":
        raise BackendError(
            "precision bf16 was asked for, but there are engines in fp32, fp16 and int8 only",
            hint="Use precision='auto', 'fp32', 'fp16' or 'int8'",
        )
    return require_graph(manifest.files, precision)


def _way_of_waiting(wait: str | None) -> str:
    chosen = wait or os.environ.get("ESCCS_GPU_WAIT") or "block"
    if chosen not in ("block", "spin"):
        raise InputError(f"way of waiting for the GPU is {chosen!r}, expected 'block' or 'spin'")
    return chosen


def _close_at_exit(backend: TrtBackend) -> None:
    """TensorRT objects must go before the interpreter takes the CUDA binding apart."""
    alive = weakref.ref(backend)

    def close() -> None:
        if (found := alive()) is not None:
            found.close()

    atexit.register(close)
    weakref.finalize(backend, atexit.unregister, close)
