"""Is there an NVIDIA driver, and which GPUs does it show? Answered through ctypes alone.

TensorRT kills the process at exit when its runtime is made on a host without a driver, so every
path toward it asks here first. Nothing is imported, and no CUDA context is made.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

#: Process in which the driver was initialized; empty before.
_probed_in: list[int] = []

# Values of CUdevice_attribute in cuda.h.
_INTEGRATED = 18
_MAJOR = 75
_MINOR = 76


@dataclass(frozen=True)
class GpuInfo:
    """One GPU as the driver describes it.

    Attributes:
        name: Marketing name, such as ``"NVIDIA H200"``.
        compute_capability: ``(major, minor)``.
        integrated: True if it shares memory with the CPU (Jetson).
        memory_bytes: Total device memory.
    """

    name: str
    compute_capability: tuple[int, int]
    integrated: bool
    memory_bytes: int

    @property
    def sm(self) -> str:
        """Compute capability as ``"8.7"``."""
        return "{}.{}".format(*self.compute_capability)


@dataclass(frozen=True)
class DriverInfo:
    """What the driver answered.

    Attributes:
        version: Newest CUDA version the driver supports, such as ``"13.0"``; empty if none.
        gpus: Visible GPUs in ordinal order; empty if there is none.
        problem: Why there is nothing to use; empty if all is well.
    """

    version: str
    gpus: tuple[GpuInfo, ...]
    problem: str


@lru_cache(maxsize=1)
def driver_library() -> Any:
    """Return the driver's library as ctypes loads it; None where there is none."""
    try:
        return ctypes.CDLL(_LIBRARY)
    except (OSError, UnicodeDecodeError):  # the reason, in the locale's own encoding
        return None


@lru_cache(maxsize=1)
def probe_driver() -> DriverInfo:
    """Ask the CUDA driver once per process; never raises. Forked children inherit the answer."""
    library = driver_library()
    if library is None:
        return DriverInfo("", (), f"no CUDA driver library ({_LIBRARY}) on this host")
    _probed_in.append(os.getpid())
    return query_driver(library)


def is_forked_from_probe() -> bool:
    """Return whether a parent of this process asked the driver, which therefore fails here."""
    return bool(_probed_in) and _probed_in[-1] != os.getpid()


def driver_present() -> bool:
    """Return whether a CUDA driver with at least one GPU works in this process."""
    return not probe_driver().problem


def pci_bus_id(ordinal: int) -> str:
    """Return a GPU's PCI address, by which NVML knows it; empty where there is no such GPU."""
    if not 0 <= ordinal < len(probe_driver().gpus):
        return ""
    library, text, device = driver_library(), ctypes.create_string_buffer(32), ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), ordinal)
    return "" if library.cuDeviceGetPCIBusId(text, len(text), device) else text.value.decode()


def device_attribute(ordinal: int, number: int) -> int:
    """Return an attribute of a GPU by its number in ``cuda.h``; 0 where the driver has no such."""
    library, device = driver_library(), ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), ordinal)
    return _attribute(library, number, device)


def query_driver(library: Any) -> DriverInfo:
    """Read version and devices from a loaded driver library."""
    if code := library.cuInit(0):
        return DriverInfo("", (), f"cuInit failed with CUDA error {code}")
    number, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    if code := library.cuDeviceGetCount(ctypes.byref(count)):
        return DriverInfo(version, (), f"cuDeviceGetCount failed with CUDA error {code}")
    gpus = tuple(_gpu(library, ordinal) for ordinal in range(count.value))
    return DriverInfo(version, gpus, "" if gpus else "the CUDA driver shows no GPU")


def _gpu(library: Any, ordinal: int) -> GpuInfo:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), ordinal)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return GpuInfo(
        name=name.value.decode(errors="replace"),
        compute_capability=(
            _attribute(library, _MAJOR, device),
            _attribute(library, _MINOR, device),
        ),
        integrated=bool(_attribute(library, _INTEGRATED, device)),
        memory_bytes=memory.value,
    )


def _attribute(library: Any, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return value.value
