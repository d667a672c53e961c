"""The portable backend: OpenVINO on the CPU.

Compiles the model for the sizes and cores that its lanes (`cpu_lane`) ask for.
"""

from __future__ import annotations

import threading
from typing import Any

from ...contracts.bundle import Bundle
from ...contracts.manifest import Manifest
from ...contracts.onnx_file import refuse_external_data
from ...errors import BackendError, InputError
from ...system.cores import usable_cores
from ..base import Backend
from .compiled import LoadedModel, load_model
from .lane import CpuLane
from .openvino import ov
from .signal_stack import kept_signal_stack


class CpuBackend(Backend):
    """The model of a bundle, compiled for this CPU.

    Args:
        bundle: Where the model is read from, through its recorded digest.
        manifest: Contract to obey; usually ``bundle.manifest``, perhaps with another ``dn_offset``.
        max_batch: Most pairs one lane takes at once.
        threads: Threads for inference and for preprocessing; None takes every core.
        sar_is_linear: SAR pixels are linear sigma0 and are converted to dB.
        precision: ``"f32"`` for exact float arithmetic. None: so it is for a quantized model, whose
            few float layers gain nothing by less; for a float model OpenVINO's choice, which is
            bfloat16 on CPUs that have it. In f32, the batch around a pair changes its answer by
            no more than rounding.
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
        if precision is None and manifest.quantization is not None:
            precision = "f32"
        self._options: dict[str, Any] = {}
        if threads is not None and threads < usable_cores():
            # OpenVINO binds threads to cores, in every process from the first on: two processes of
            # one thread each would share that core and leave the next one idle.
            self._options["ENABLE_CPU_PINNING"] = False
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
            pairs: One of `cpu_lane.PART_SIZES`.
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
        """Allocate the answers of ``max_batch`` pairs and the first slot."""
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
