"""The GPU backend: a bundle's model as one TensorRT engine that several lanes share.

The engine comes from this user's cache, or is built from the verified ONNX and kept there. The
whole network is in it; each lane runs it with buffers of its own.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from ...contracts.bundle import Bundle
from ...contracts.bundle_files import (
    MEASURED,
    MODEL_FILES,
    Precision,
    require_graph,
    require_precision,
)
from ...contracts.manifest import Manifest
from ...cuda.device import Device, FirstError
from ...cuda.probe import pci_bus_id, probe_driver
from ...errors import BackendError, ClosedError, InputError
from ...pixels.synthetic import random_samples
from ...system.heat import BOARD
from ...system.sealed_cache import SealedCache
from ..base import Backend, Lane
from .buffers import Allocator
from .build import BuildCallback
from .engine_builder import EngineBuilder
from .kernel_cache import JitCache
from .lane import LaneOptions, TrtLane
from .layer_times import layer_times_ms
from .library import Flavor, FlavorName, LoadedEngine, load_flavor, pick_flavor
from .memory_budget import MemoryBudget, limit_of
from .pixel_kernels import load_fatbin
from .ranged_lane import lane_kind


class TrtBackend(Backend):
    """The model of a bundle on one NVIDIA GPU.

    Args:
        bundle: Where the model is read from, through its recorded digest.
        manifest: Contract to obey; usually ``bundle.manifest``, perhaps with another ``dn_offset``.
        max_batch: Most samples one lane takes at once; no more than the manifest's batch profile.
        precision: Which graph of the bundle to run, ``"fp32"``, ``"fp16"`` or ``"int8"``;
            ``"auto"`` is the manifest's model, but on ``rtx`` no INT8 that `build --choose` has not
            measured: FP16 where the bundle has it, else FP32.
        flavor: TensorRT library; None is ``tensorrt`` where installed, else ``rtx``.
        graph_batches: Batch sizes to run as CUDA graphs; others are padded to them with absent
            samples where that less than doubles the batch. None is the powers of two up to 32, and
            ``max_batch``.
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
        MissingDependencyError: TensorRT or a CUDA binding is not installed, or ``ESCCS_NVTX`` asks
            for the package nvtx, which is not.
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
        self._lane = lane_kind()
        self.max_batch = min(max_batch, manifest.batch.max)
        self._manifest = manifest
        require_precision(precision)
        self._flavor = load_flavor(flavor) if flavor else pick_flavor()
        self._model, self._reason = _model_file(manifest, precision, self._flavor)
        onnx = bundle.read(self._model)
        self._lanes: list[TrtLane] = []
        self._lanes_lock = threading.Lock()
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
                self._built = builder.options
                self._jit = JitCache.attach(self._loaded, engines, builder.key)
                module = self.device.module(load_fatbin())
                self._kernel = module.kernel("esccs_preprocess_f32")
        except BaseException:
            self.close()
            raise
        BOARD.watch_gpu("" if self.device.integrated else pci_bus_id(ordinal))
        _close_at_exit(self)

    def open_lane(self) -> Lane:
        """Allocate streams, buffers and the engine's activations.

        Raises:
            BackendError: It would exceed the memory budget.
            CudaError: The driver refused; perhaps there is too little memory.
        """
        return self._open_lane()

    def _open_lane(self) -> TrtLane:
        if self._loaded is None:
            raise ClosedError("the TensorRT backend was closed")
        make = Allocator(self.device, self._options.budget)
        with self.device.active():
            try:
                lane = self._lane(make, self._loaded, self._kernel, self._manifest, self._options)
            except BaseException as error:  # which is what counts, not that freeing fails as well
                self.device.note(error)
                make.settle()
                with FirstError(self.device):
                    make.free()
                raise
        with self._lanes_lock:
            self._lanes = [*(known for known in self._lanes if not known.closed), lane]
        return lane

    @property
    def open_lanes(self) -> int:
        """How many lanes are open."""
        with self._lanes_lock:
            return sum(not lane.closed for lane in self._lanes)

    def describe(self) -> dict[str, Any]:
        """Return GPU, libraries, model and how lanes work."""
        described: dict[str, Any] = {
            "backend": self.name,
            "flavor": self._flavor.name,
            "tensorrt": self._flavor.version,
            "model": self._model,
            "precision": next((p for p, name in MODEL_FILES.items() if name == self._model), None),
            "precision_reason": self._reason,
            "max_batch": self.max_batch,
        }
        if self._loaded is None:
            return described
        with self.device.active():
            return {
                **described,
                "device": self.device.name,
                "ordinal": self.device.ordinal,
                "target": self._built.target,
                "typing": self._built.typing,
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

    def keep(self) -> None:
        """Store the kernels that TensorRT for RTX has compiled so far, lest a crash lose them."""
        if self._jit is not None and self._loaded is not None and not self._loaded.lost:
            with self.device.active():
                self._jit.keep()

    def layers(self) -> list[dict[str, Any]]:
        """Return what the engine inspector reports of each layer of the engine that runs here."""
        if self._loaded is None:
            raise ClosedError("the TensorRT backend was closed")
        with self.device.active():
            return self._loaded.layers()

    def layer_times_ms(self, batch: int) -> dict[str, float]:
        """Return the median time of each layer for a batch, by the name that `layers` gives it.

        Args:
            batch: Samples, 1..max_batch; they are simulated.
        """
        if self._loaded is None:
            raise ClosedError("the TensorRT backend was closed")
        lane = self._open_lane()
        try:
            lane.answer(random_samples(self._manifest, batch))
            with self.device.active():
                return layer_times_ms(self._flavor, lane.contexts, batch)
        finally:
            lane.close()

    def close(self) -> None:
        """Free lanes that are still open, then the engine, then the device.

        Idempotent; a forked child frees nothing, since all of it is the parent's. On a lost GPU all
        is only forgotten.

        Raises:
            CudaError: The first thing that could not be freed; the rest was still tried.
        """
        if not self.device.is_ours:
            return
        errors = FirstError(self.device)
        with self._lanes_lock:
            lanes, self._lanes = self._lanes, []
        for lane in lanes:
            with errors:
                lane.close()
        loaded, jit = self._loaded, self._jit
        self._loaded = self._jit = None
        if loaded is not None:
            with errors:
                self._release(loaded, jit)
        with errors:
            self.device.close()
        errors.throw()

    def _release(self, loaded: LoadedEngine, jit: JitCache | None) -> None:
        if self.device.lost:
            _let_go(loaded, jit)
            return
        with self.device.active():  # TensorRT frees device memory here
            try:
                if jit is not None and not loaded.lost:
                    jit.keep()
            finally:
                _let_go(loaded, jit)

    def __del__(self) -> None:
        """Free the GPU also where `close` is not called, as when a second lane was refused."""
        if hasattr(self, "device"):
            self.close()

    def _graph_batches(self, wanted: Sequence[int] | None) -> frozenset[int]:
        if wanted is None:
            powers = [2**n for n in range(6) if 2**n <= self.max_batch]
            wanted = (*powers, self.max_batch) if self.device.driver.has_graphs else ()
        elif wanted and not self.device.driver.has_graphs:
            raise BackendError(
                f"CUDA graphs were asked for, but {self.device.driver.name} has none",
                hint="Set ESCCS_CUDA=cuda-python, or graph_batches=()",
            )
        return frozenset(wanted)


def _let_go(loaded: LoadedEngine, jit: JitCache | None) -> None:
    if jit is not None:
        jit.release()
    loaded.release()


def _model_file(manifest: Manifest, precision: Precision, flavor: Flavor) -> tuple[str, str]:
    """Return the graph to run, and why it is that one."""
    if precision == "auto":
        return _model_of_choice(manifest, flavor)
    if precision == "bf16":
        raise BackendError(
            "precision bf16 was asked for, but there are engines in fp32, fp16 and int8 only",
            hint="Use precision='auto', 'fp32', 'fp16' or 'int8'",
        )
    return require_graph(manifest.files, precision), "asked for"


def _model_of_choice(manifest: Manifest, flavor: Flavor) -> tuple[str, str]:
    if MEASURED in manifest.files:
        return manifest.model, "measured by build --choose"
    if flavor.name != "rtx" or manifest.model != MODEL_FILES["int8"]:
        return manifest.model, "the bundle's model"
    why = "TensorRT for RTX quantizes weights only, and INT8 was not measured"
    for precision in ("fp16", "fp32"):
        if (found := MODEL_FILES[precision]) in manifest.files:
            return found, why
    return manifest.model, "the bundle has no other graph"


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
