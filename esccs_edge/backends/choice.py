"""Which backend runs a bundle on this machine; decided once, when a classifier is made.

Libraries of a backend are imported only in the branch that picks it.
"""

from __future__ import annotations

import importlib.util
import logging

from ..contracts.bundle import Bundle
from ..contracts.bundle_files import Precision
from ..contracts.manifest import Manifest
from ..cuda.probe import driver_present, probe_driver
from ..errors import InputError, MissingDependencyError
from .base import Backend
from .device_choice import Device, FlavorChoice, flavor_of, ordinals_of
from .trt.library import RTX_TARGETS
from .trt.pixel_kernels import fatbin_path

BACKENDS = ("auto", "cpu", "tensorrt")
_RTX_MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")
_CUDA_MODULES = ("cuda.bindings", "pycuda")
_log = logging.getLogger("esccs_edge.backends")
_log.addHandler(logging.NullHandler())


def open_backend(
    name: str,
    bundle: Bundle,
    manifest: Manifest,
    *,
    max_batch: int,
    threads: int | None,
    precision: Precision = "auto",
    device: Device = None,
    flavor: FlavorChoice | None = None,
) -> Backend:
    """Load a bundle's model into the named backend.

    Args:
        name: ``"cpu"``, ``"tensorrt"``, or ``"auto"``: TensorRT where `tensorrt_is_usable` or where
            ``device`` or ``flavor`` asks for it, else the CPU. An error of the backend that was
            picked is raised, never answered by another backend.
        bundle: Where the model is read from.
        manifest: Contract to obey.
        max_batch: Most pairs in a batch.
        threads: CPU threads, None for all.
        precision: Number format of the network; ``"auto"`` leaves the choice to the backend.
        device: GPUs to run on; see `Device`.
        flavor: TensorRT library; see `FlavorChoice`.

    Raises:
        InputError: Unknown backend, precision, device or flavor, or a GPU for the CPU backend.
        MissingDependencyError: Its library is not installed.
    """
    if name not in BACKENDS:
        raise InputError(f"backend is {name!r}, expected one of {', '.join(BACKENDS)}")
    for_gpu = device is not None or flavor is not None
    if name == "cpu" and for_gpu:
        raise InputError(
            f"backend is 'cpu' with device {device!r} and flavor {flavor!r}, which are for GPUs",
            hint="Leave them out, or use backend='tensorrt'",
        )
    if name == "tensorrt" or name == "auto" and (for_gpu or tensorrt_is_usable()):
        from .trt.several import open_gpus

        return open_gpus(
            ordinals_of(device),
            bundle,
            manifest,
            flavor=flavor_of(flavor),
            max_batch=max_batch,
            precision=precision,
        )
    try:
        from .cpu.backend import CpuBackend
    except ImportError as error:
        raise MissingDependencyError(
            f"the CPU backend needs the package openvino, which cannot be loaded: {error}",
            hint="Run: pip install openvino",
        ) from error
    made = CpuBackend(bundle, manifest, max_batch=max_batch, threads=threads, precision=precision)
    if name == "auto":
        made.why = why_not_tensorrt()
        if driver_present():
            _log.warning("The CPU runs the model, though there is a GPU: %s", made.why)
    return made


def tensorrt_is_usable() -> bool:
    """Return whether TensorRT, a CUDA binding, our kernels and a GPU are all here; imports none."""
    return not why_not_tensorrt()


def why_not_tensorrt() -> str:
    """Return what of `tensorrt_is_usable` is missing; empty if nothing is."""
    if not driver_present():
        return probe_driver().problem or "there is no GPU"
    wanted = flavor_of(None)
    full = wanted != "rtx" and _is_installed("tensorrt")
    rtx = wanted != "tensorrt" and any(map(_is_installed, _RTX_MODULES))
    if not full and not rtx:
        return "no TensorRT is installed"
    if not any(map(_is_installed, _CUDA_MODULES)):
        return "neither cuda-python nor pycuda is installed"
    if not fatbin_path().is_file():
        return "this package was built without nvcc, so without CUDA kernels"
    return "" if full else _rtx_has_no_target()


def _rtx_has_no_target() -> str:
    gpus = probe_driver().gpus
    for ordinal in ordinals_of(None):
        if ordinal < len(gpus) and gpus[ordinal].sm not in RTX_TARGETS:
            gpu = gpus[ordinal]
            return (
                f"TensorRT for RTX lists no target for {gpu.name} (compute capability {gpu.sm}); "
                "install tensorrt, or ask for backend 'tensorrt' to try it all the same"
            )
    return ""


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the parent package is absent or broken
        return False
