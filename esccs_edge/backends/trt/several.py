"""Several GPUs in one process behind one pool of lanes: a `TrtBackend` for each of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ...contracts.bundle import Bundle
from ...contracts.manifest import Manifest
from ...errors import EsccsError
from ..base import Backend, Lane
from ..device_choice import FlavorChoice
from .backend import TrtBackend


class SeveralGpus(Backend):
    """GPUs that take turns: each new lane is opened where there are the fewest.

    An error that loses one GPU reaches the caller with the remedy to restart, as with one GPU.

    Args:
        open_gpu: Opens the backend of a GPU by its ordinal.
        ordinals: GPUs, at least one.

    Raises:
        EsccsError: What `open_gpu` raises; then those that were opened are closed.
    """

    name = "tensorrt"

    def __init__(self, open_gpu: Callable[[int], TrtBackend], ordinals: Sequence[int]) -> None:
        self._gpus: list[TrtBackend] = []
        self._lock = threading.Lock()
        try:
            for ordinal in ordinals:
                self._gpus.append(open_gpu(ordinal))
        except BaseException:
            self.close()
            raise
        self.max_batch = min(gpu.max_batch for gpu in self._gpus)
        self.devices = len(self._gpus)

    def open_lane(self) -> Lane:
        """Allocate a lane on the GPU with the fewest open ones."""
        with self._lock:
            return min(self._gpus, key=lambda gpu: gpu.open_lanes).open_lane()

    def describe(self) -> dict[str, Any]:
        """Return what `TrtBackend.describe` says of the first GPU, and of each in ``devices``."""
        described = [gpu.describe() for gpu in self._gpus]
        return {**described[0], "devices": described}

    def keep(self) -> None:
        """Store what each GPU has compiled."""
        for gpu in self._gpus:
            gpu.keep()

    def close(self) -> None:
        """Close every GPU, even if one cannot; raises the first error."""
        first: EsccsError | None = None
        for gpu in self._gpus:
            try:
                gpu.close()
            except EsccsError as error:
                first = first or error
        if first is not None:
            raise first


def open_gpus(
    ordinals: Sequence[int],
    bundle: Bundle,
    manifest: Manifest,
    *,
    flavor: FlavorChoice = "auto",
    **options: Any,
) -> Backend:
    """Open a bundle's model on one GPU or several; ``options`` are those of `TrtBackend`.

    Raises:
        EsccsError: As `TrtBackend`.
    """
    named = None if flavor == "auto" else flavor

    def open_gpu(ordinal: int) -> TrtBackend:
        return TrtBackend(bundle, manifest, ordinal=ordinal, flavor=named, **options)

    return open_gpu(ordinals[0]) if len(ordinals) == 1 else SeveralGpus(open_gpu, ordinals)
