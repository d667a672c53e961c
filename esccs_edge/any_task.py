"""Any bundle, whatever its task, at work on the backend of this machine.

`Classifier` and its siblings stand on it; programs that serve several tasks use it directly.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .backends.choice import open_backend
from .backends.device_choice import Device, FlavorChoice
from .contracts.arguments import whole_number
from .contracts.bundle import Bundle
from .contracts.bundle_files import Precision
from .contracts.manifest import Manifest
from .contracts.types import PathLike
from .runtime.model import ModelRuntime

#: Largest batch. A lane holds pixels and answers of a whole one.
MAX_BATCH = 65_536


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
    device: Device = None,
    flavor: FlavorChoice | None = None,
    manifest: Manifest | None = None,
    digest: str | None = None,
    check_every_s: float | None = None,
) -> ModelRuntime[Any]:
    """Load a bundle's model into a backend.

    Args:
        bundle: Bundle folder, an open `Bundle`, or None for the one in the package.
        backend: ``"cpu"``, ``"tensorrt"`` or ``"auto"``, which picks once, here.
        max_batch: Most samples in one batch.
        max_delay_ms: Longest wait of `ModelRuntime.submit` for others in its batch, while another
            batch is under way.
        lanes: Batches that may be under way at once, on each device.
        queue_size: Most requests that wait before `Overloaded`.
        threads: CPU threads; None for all.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"`` or ``"auto"``: what is exact and
            fastest on this device.
        device: GPUs to run on: a number as the driver counts them, several such as ``(0, 1)``, or
            ``"all"``; None is what ``ESCCS_DEVICE`` says, or the first.
        flavor: ``"tensorrt"``, ``"rtx"`` or ``"auto"``; None is what ``ESCCS_FLAVOR`` says.
        manifest: Contract to obey instead of the bundle's own, perhaps with another ``dn_offset``
            or stored unit.
        digest: SHA-256 that the bundle's ``manifest.json`` must have; see `Bundle.open`.
        check_every_s: Seconds from one look at the model to the next; see `ModelRuntime`.

    Returns:
        The model; its answers are those of the bundle's task.

    Raises:
        ArtifactError: The bundle or its model file is missing, altered or unsafe.
        ManifestError: The manifest breaks its contract or does not fit the model.
        BackendError: The model does not run here.
        MissingDependencyError: The backend's library is not installed.
        InputError: An argument is out of its range.
    """
    max_batch = whole_number("max_batch", max_batch, 1, MAX_BATCH)
    threads = None if threads is None else whole_number("threads", threads, 1)
    lanes = whole_number("lanes", lanes, 1)
    opened = Bundle.opened(bundle, digest)
    obeyed = opened.manifest if manifest is None else manifest
    open_one = partial(
        open_backend,
        backend,
        opened,
        obeyed,
        max_batch=max_batch,
        threads=threads,
        precision=precision,
        device=device,
        flavor=flavor,
    )
    made = open_one()
    return ModelRuntime(
        made,
        obeyed,
        bundle=opened.identity,
        lanes=lanes * made.devices,
        queue_size=queue_size,
        max_delay_ms=max_delay_ms,
        reopen=open_one,
        check_every_s=check_every_s,
    )
