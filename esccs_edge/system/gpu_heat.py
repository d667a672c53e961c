"""Whether a discrete GPU holds its clocks down because it is too hot, as the driver's NVML tells.

Source: NVIDIA's NVML API reference, "clocks event reasons" (older: "throttle reasons"). A limit of
power that is reached in everyday work is none of these.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

NVML = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
#: Slowed by the hardware, by the driver for heat, by the hardware for heat, by the power brake.
TOO_HOT = 0x08 | 0x20 | 0x40 | 0x80
#: The call, under its name of today and of drivers before 535.
_NAMES = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")


class GpuHeat:
    """Asks about one GPU.

    Args:
        library: NVML, loaded.
        device: Its handle of the GPU.
    """

    def __init__(self, library: Any, device: ctypes.c_void_p) -> None:
        found = (getattr(library, name, None) for name in _NAMES)
        self._ask = next((call for call in found if call is not None), None)
        self._device = device

    @classmethod
    def of(cls, bus_id: str, library: Any = None) -> GpuHeat | None:
        """Return the one of a GPU, by its PCI address; None where there is no NVML or it is not.

        Args:
            bus_id: Such as ``"0000:01:00.0"``; empty for a GPU without one.
            library: In place of the driver's.
        """
        if not bus_id:
            return None
        device = ctypes.c_void_p()
        try:
            library = library or ctypes.CDLL(NVML)
            if library.nvmlInit_v2():
                return None
            if library.nvmlDeviceGetHandleByPciBusId_v2(bus_id.encode(), ctypes.byref(device)):
                return None
        except (OSError, AttributeError):
            return None
        return cls(library, device)

    def is_throttled(self) -> bool:
        """Return whether its clocks are held down; False where it does not tell."""
        reasons = ctypes.c_ulonglong()
        if self._ask is None or self._ask(self._device, ctypes.byref(reasons)):
            return False
        return bool(reasons.value & TOO_HOT)
