"""Whether this board holds its clocks down because it is too hot, as Linux and NVML tell it.

Source: the kernel's ``Documentation/driver-api/thermal/sysfs-api.rst``. A zone whose temperature
has reached a ``passive`` or ``hot`` trip point is being cooled by slower clocks; a cooling device
of that kind says so itself by a state above 0. Fans are no such devices.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from .gpu_heat import GpuHeat

#: Readings are kept this long; heat changes slowly.
KEPT_S = 1.0
_SLOWER = re.compile(r".*throttle-alert|cpufreq.*|devfreq.*|Processor|thermal-(cpu|gpu).*")


class Heat:
    """Reads thermal zones and cooling devices, at most once in `KEPT_S`. Thread-safe.

    Args:
        root: Stands for ``/``, so that a board's files can be laid out in a test.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        folder = root / "sys/class/thermal"
        self._zones = sorted(folder.glob("thermal_zone*"))
        self._devices = [
            device
            for device in sorted(folder.glob("cooling_device*"))
            if _SLOWER.fullmatch(_text(device / "type"))
        ]
        self._gpus: dict[str, GpuHeat] = {}
        self._read_s = -KEPT_S
        self._is_throttled = False

    def watch_gpu(self, bus_id: str) -> None:
        """Ask NVML too, about the discrete GPU at a PCI address; empty: there is none to ask."""
        gpu = GpuHeat.of(bus_id)
        if gpu is not None:
            self._gpus[bus_id] = gpu

    def is_throttled(self) -> bool:
        """Return whether clocks are held down; False where the board does not tell."""
        if not (self._zones or self._devices or self._gpus):
            return False
        now = time.monotonic()
        if now - self._read_s >= KEPT_S:
            self._read_s = now
            self._is_throttled = (
                any(map(_is_slowed, self._devices))
                or any(map(_is_hot, self._zones))
                or any(gpu.is_throttled() for gpu in tuple(self._gpus.values()))
            )
        return self._is_throttled


#: What this process runs on.
BOARD = Heat()


def _is_slowed(device: Path) -> bool:
    return (_number(device / "cur_state") or 0) > 0


def _is_hot(zone: Path) -> bool:
    temperature = _number(zone / "temp")
    if temperature is None:
        return False
    for kind in zone.glob("trip_point_*_type"):
        limit = _number(kind.with_name(kind.name.replace("_type", "_temp")))
        if _text(kind) in ("passive", "hot") and limit is not None and 0 < limit <= temperature:
            return True
    return False


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # a sensor that sleeps
        return ""
