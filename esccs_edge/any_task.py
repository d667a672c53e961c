"""Any bundle, whatever its task, at work on the backend of this machine.

`Classifier` and its siblings stand on it; programs that serve several tasks use it directly.
"""

from __future__ import annotations

from typing import Any

from .backends.choice import open_backend
from .contracts.bundle import Bundle
from .contracts.bundle_files import Precision
from .contracts.manifest import Manifest
from .contracts.types import PathLike
from .errors import InputError
from .runtime.model import ModelRuntime


def open_model(
    bundle: Bundle | PathLike | None = None,
    backend: str = "auto",
    max_batch: int = 32,
    max_delay_ms: float = 2.0,
    *,
    lanes: int = 2,
    queue_size: int = 256,
    threads: int | None = None,
    precision: Precision = "auto",
    manifest: Manifest | None = None,
) -> ModelRuntime[Any]:
    """Load a bundle's model into a backend.

    Args:
        bundle: Bundle folder, an open `Bundle`, or None for the one in the package.
        backend: ``"cpu"``, ``"tensorrt"`` or ``"auto"``, which picks once, here.
        max_batch: Most samples in one batch.
        max_delay_ms: Longest wait of `ModelRuntime.submit` for others in its batch, while another
            batch is under way.
        lanes: Batches that may be under way at once.
        queue_size: Most requests that wait before `Overloaded`.
        threads: CPU threads; None for all.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"`` or ``"auto"``: what is exact and
            fastest on this device.
        manifest: Contract to obey instead of the bundle's own, perhaps with another ``dn_offset``
            or stored unit.

    Returns:
        The model; its answers are those of the bundle's task.

    Raises:
        ArtifactError: The bundle or its model file is missing, altered or unsafe.
        ManifestError: The manifest breaks its contract or does not fit the model.
        BackendError: The model does not run here.
        MissingDependencyError: The backend's library is not installed.
        InputError: An argument is out of its range.
    """
    if max_batch < 1 or threads is not None and threads < 1:
        raise InputError(f"max_batch is {max_batch} and threads {threads}, expected at least 1")
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    obeyed = opened.manifest if manifest is None else manifest
    return ModelRuntime(
        open_backend(
            backend, opened, obeyed, max_batch=max_batch, threads=threads, precision=precision
        ),
        obeyed,
        bundle=opened.identity,
        lanes=lanes,
        queue_size=queue_size,
        max_delay_ms=max_delay_ms,
    )
