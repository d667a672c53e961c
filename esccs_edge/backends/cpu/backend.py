"""The portable backend: OpenVINO on the CPU."""

from __future__ import annotations

from typing import Any

from ...contracts.bundle import Bundle
from ...contracts.bundle_files import Precision
from ...contracts.manifest import Manifest
from ...contracts.onnx_file import read_model
from ..base import Backend
from .arithmetic import choose_arithmetic
from .compiled import CompiledModels
from .lane import CpuLane
from .openvino import ov


class CpuBackend(Backend):
    """The model of a bundle, compiled for this CPU.

    Args:
        bundle: Where the model is read from, through its recorded digest.
        manifest: Contract to obey; usually ``bundle.manifest``, perhaps with another ``dn_offset``.
        max_batch: Most samples one lane takes at once.
        threads: Threads for inference and for preprocessing; None takes every core.
        precision: See `arithmetic.choose_arithmetic`. In ``"fp32"`` and ``"int8"``, the batch
            around a sample changes its answer by no more than rounding.
        cache: Keep the compiled model in the user's cache folder for the next start.

    Raises:
        ArtifactError: The model file is missing, altered, unreadable or not self-contained; or
            the bundle has no graph of that precision.
        ManifestError: Its inputs or outputs are not those of the manifest.
        BackendError: This CPU does not compute in that precision.
    """

    name = "cpu"

    def __init__(
        self,
        bundle: Bundle,
        manifest: Manifest,
        *,
        max_batch: int,
        threads: int | None = None,
        precision: Precision = "auto",
        cache: bool = True,
    ) -> None:
        self._arithmetic = choose_arithmetic(manifest, precision)
        model = self._arithmetic.model
        content = read_model(bundle, model)
        self.max_batch = max_batch
        self.manifest = manifest
        self._models = CompiledModels(
            content, model, manifest, threads=threads, hint=self._arithmetic.hint, keep=cache
        )

    def open_lane(self) -> CpuLane:
        """Allocate the outputs of ``max_batch`` samples and the first slot."""
        return CpuLane(self._models, self.manifest, self.max_batch)

    def describe(self) -> dict[str, Any]:
        """Return device, OpenVINO version, arithmetic and threads."""
        float_type = self._models.float_type
        return {
            "backend": self.name,
            "device": self._models.device,
            "openvino": ov.get_version(),
            "model": self._arithmetic.model,
            "precision": float_type and self._arithmetic.precision(float_type),
            "precision_reason": self._arithmetic.reason,
            "threads": self._models.cores if float_type else 0,
            "max_batch": self.max_batch,
        }

    def close(self) -> None:
        """Free the compiled models."""
        self._models.close()
