"""Which backend runs a bundle on this machine; decided once, when a classifier is made.

Libraries of a backend are imported only in the branch that picks it.
"""

from __future__ import annotations

import importlib.util

from ..contracts.bundle import Bundle
from ..contracts.bundle_files import Precision
from ..contracts.manifest import Manifest
from ..cuda.probe import driver_present
from ..errors import InputError, MissingDependencyError
from .base import Backend
from .trt.pixel_kernels import fatbin_path

BACKENDS = ("auto", "cpu", "tensorrt")
_TENSORRT_MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
_CUDA_MODULES = ("cuda.bindings", "pycuda")


def open_backend(
    name: str,
    bundle: Bundle,
    manifest: Manifest,
    *,
    max_batch: int,
    threads: int | None,
    precision: Precision = "auto",
) -> Backend:
    """Load a bundle's model into the named backend.

    Args:
        name: ``"cpu"``, ``"tensorrt"``, or ``"auto"``: TensorRT where `tensorrt_is_usable`, else
            the CPU. An error of the backend that was picked is raised, never answered by another
            backend.
        bundle: Where the model is read from.
        manifest: Contract to obey.
        max_batch: Most pairs in a batch.
        threads: CPU threads, None for all.
        precision: Number format of the network; ``"auto"`` leaves the choice to the backend.

    Raises:
        InputError: Unknown backend or precision.
        MissingDependencyError: Its library is not installed.
    """
    if name not in BACKENDS:
        raise InputError(f"backend is {name!r}, expected one of {', '.join(BACKENDS)}")
    if name == "tensorrt" or name == "auto" and tensorrt_is_usable():
        from .trt.backend import TrtBackend

        return TrtBackend(bundle, manifest, max_batch=max_batch, precision=precision)
    try:
        from .cpu.backend import CpuBackend
    except ImportError as error:
        raise MissingDependencyError(
            f"the CPU backend needs the package openvino, which cannot be loaded: {error}",
            hint="Run: pip install openvino",
        ) from error
    return CpuBackend(bundle, manifest, max_batch=max_batch, threads=threads, precision=precision)


def tensorrt_is_usable() -> bool:
    """Return whether TensorRT, a CUDA binding, our kernels and a GPU are all here; imports none."""
    return (
        any(map(_is_installed, _TENSORRT_MODULES))
        and any(map(_is_installed, _CUDA_MODULES))
        and fatbin_path().is_file()
        and driver_present()
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the parent package is absent or broken
        return False
