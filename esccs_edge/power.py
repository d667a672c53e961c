"""Energy of a block of work: rails of a Jetson, a discrete GPU (NVML), or the CPU (RAPL).

All of them cover a whole board or package, idle power and other programs included. A machine
without a sensor has no meter, and then no energy is reported. `root` stands for ``/``, so that a
board's files can be laid out in a test.
"""

from __future__ import annotations

import ctypes
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from .cuda.probe import pci_bus_id
from .errors import BackendError
from .system.gpu_heat import NVML

#: NVML and the INA3221 driver refresh their readings some ten times a second or faster.
SAMPLE_EVERY_S = 0.02
#: Rails that already hold all others of their board.
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")


#: Seconds on a clock, and what a meter showed then.
Reading = tuple[float, float]


def nvpmodel_mode(root: Path = Path("/")) -> int | None:
    """Return the power mode of a Jetson, which nvpmodel keeps as ``pmode:NNNN``; else None."""
    try:
        text = (root / "var/lib/nvpmodel/status").read_text(errors="replace")
    except OSError:
        return None
    found = re.search(r"pmode:(\d+)", text)
    return int(found[1]) if found else None


class PowerMeter(ABC):
    """Something that `EnergyLog` reads again and again while a block of work runs.

    Attributes:
        name: What is measured, for the report.
    """

    name: str

    @abstractmethod
    def read(self) -> float:
        """Return what the meter shows now.

        Raises:
            BackendError: The sensor does not answer any more.
        """

    @abstractmethod
    def joules(self, samples: Sequence[Reading]) -> float:
        """Return the energy between the first and the last of what was read."""


class WattMeter(PowerMeter):
    """A meter that shows the power drawn right now."""

    @abstractmethod
    def watts(self) -> dict[str, float]:
        """Return the power of each rail.

        Raises:
            BackendError: The sensor does not answer any more.
        """

    def total_watts(self) -> float:
        """Return the power of the whole: the rail that holds all others, else their sum."""
        rails = self.watts()
        return next((rails[name] for name in _WHOLE_BOARD if name in rails), sum(rails.values()))

    def read(self) -> float:
        """See `PowerMeter`; watts."""
        return self.total_watts()

    def joules(self, samples: Sequence[Reading]) -> float:
        """See `PowerMeter`; by the trapezoidal rule."""
        return sum(
            (later - sooner) * (before + after) / 2
            for (sooner, before), (later, after) in pairwise(samples)
        )


class RailMeter(WattMeter):
    """The INA3221 monitors of a Jetson, read from sysfs."""

    def __init__(self, channels: dict[str, tuple[Path, Path]]) -> None:
        self.name = "INA3221 rails: " + ", ".join(sorted(channels))
        self._channels = channels

    @classmethod
    def find(cls, root: Path) -> RailMeter | None:
        """Return the board's rails, or None where there is no such monitor."""
        channels: dict[str, tuple[Path, Path]] = {}
        for label in sorted(root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[123]_label")):
            number, rail = label.name[2], label.read_text().strip()
            pair = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
            if rail != "NC" and all(path.is_file() for path in pair):
                channels[rail] = pair
        return cls(channels) if channels else None

    def watts(self) -> dict[str, float]:
        """See `WattMeter`; the driver reports millivolts and milliamperes."""
        try:
            return {
                rail: int(volts.read_text()) * int(amperes.read_text()) * 1e-6
                for rail, (volts, amperes) in self._channels.items()
            }
        except (OSError, ValueError) as error:
            raise BackendError(f"a power rail cannot be read any more: {error}") from error


class NvmlCounter(PowerMeter):
    """A discrete GPU's counter of energy (Volta and later); it covers its board, not the host."""

    def __init__(self, library: Any, device: ctypes.c_void_p) -> None:
        self.name = "NVML energy counter, whole GPU board"
        self._library, self._device = library, device

    def read(self) -> float:
        """See `PowerMeter`; joules since the driver was loaded."""
        millijoules = ctypes.c_ulonglong()
        answer = ctypes.byref(millijoules)
        if code := self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, answer):
            raise BackendError(f"NVML cannot read the energy any more: error {code}")
        return millijoules.value * 1e-3

    def joules(self, samples: Sequence[Reading]) -> float:
        """See `PowerMeter`; what the counter moved."""
        return samples[-1][1] - samples[0][1]


class NvmlMeter(WattMeter):
    """A discrete GPU's power sensor, a mean over the last second on most; for GPUs before Volta."""

    def __init__(self, library: Any, device: ctypes.c_void_p) -> None:
        self.name = "NVML, whole GPU board"
        self._library, self._device = library, device

    def watts(self) -> dict[str, float]:
        """See `WattMeter`."""
        milliwatts = ctypes.c_uint()
        if code := self._library.nvmlDeviceGetPowerUsage(self._device, ctypes.byref(milliwatts)):
            raise BackendError(f"NVML cannot read the power any more: error {code}")
        return {"GPU": milliwatts.value * 1e-3}


def nvml_meter(library: Any, bus_id: str) -> PowerMeter | None:
    """Return the meter of the GPU at a PCI address from NVML; its status 0 is success."""
    device = ctypes.c_void_p()
    if library.nvmlInit_v2():
        return None
    if library.nvmlDeviceGetHandleByPciBusId_v2(bus_id.encode(), ctypes.byref(device)):
        return None
    kinds: tuple[type[NvmlCounter | NvmlMeter], ...] = (NvmlCounter, NvmlMeter)
    for kind in kinds:
        meter = kind(library, device)
        with suppress(BackendError, AttributeError):  # old libraries lack the counter
            meter.read()
            return meter
    return None


class RaplMeter(PowerMeter):
    """The energy counters of the processor packages, which hold their cores and memory."""

    def __init__(self, packages: Sequence[Path]) -> None:
        self.name = "RAPL, whole processor package" + "s" * (len(packages) > 1)
        self._packages = packages
        self._shown_uj = [_microjoules(package) for package in packages]
        self._counted_uj = 0

    @classmethod
    def find(cls, root: Path) -> RaplMeter | None:
        """Return the counters, or None where there are none that this user may read."""
        zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        packages = [zone for zone in zones if zone.name.count(":") == 1 and _is_package(zone)]
        return cls(packages) if packages else None

    def read(self) -> float:
        """See `PowerMeter`; joules since the meter was made."""
        try:
            for number, package in enumerate(self._packages):
                shown = _microjoules(package)
                drawn = shown - self._shown_uj[number]
                if drawn < 0:  # the counter starts again at 0 after its largest value
                    drawn += int((package / "max_energy_range_uj").read_text())
                self._shown_uj[number] = shown
                self._counted_uj += drawn
        except (OSError, ValueError) as error:
            raise BackendError(f"an energy counter cannot be read any more: {error}") from error
        return 1e-6 * self._counted_uj

    def joules(self, samples: Sequence[Reading]) -> float:
        """See `PowerMeter`."""
        return samples[-1][1] - samples[0][1]


def _is_package(zone: Path) -> bool:
    try:
        return (zone / "name").read_text().startswith("package") and _microjoules(zone) >= 0
    except (OSError, ValueError):  # most systems let only root read the counter
        return False


def _microjoules(zone: Path) -> int:
    return int((zone / "energy_uj").read_text())


def find_meter(root: Path = Path("/"), gpu: int | None = 0) -> PowerMeter | None:
    """Return a meter of what does the work, or None where there is no sensor.

    The rails of a board come first, since they hold CPU and GPU.

    Args:
        root: Stands for ``/``.
        gpu: Ordinal of the GPU that does the work; None where the CPU does.
    """
    rails = RailMeter.find(root)
    if rails is not None:
        return rails
    if gpu is None:
        return RaplMeter.find(root)
    bus_id = pci_bus_id(gpu)
    try:
        return nvml_meter(ctypes.CDLL(NVML), bus_id) if bus_id else None
    except OSError:
        return None


class EnergyLog:
    """Samples a meter from a thread of its own while the ``with`` block runs.

    Attributes:
        seconds: Length of the block.
        joules: Energy of the block.
    """

    def __init__(self, meter: PowerMeter, *, every_s: float = SAMPLE_EVERY_S) -> None:
        self.seconds = self.joules = 0.0
        self._meter, self._every_s = meter, every_s
        self._samples: list[Reading] = []
        self._error: BackendError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="esccs-energy", daemon=True)

    @property
    def watts(self) -> float:
        """Mean power of the block."""
        return self.joules / self.seconds

    def __enter__(self) -> EnergyLog:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is not None:
            return
        if self._error is not None:
            raise self._error
        self._sample()
        self.seconds = self._samples[-1][0] - self._samples[0][0]
        self.joules = self._meter.joules(self._samples)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every_s):
                self._sample()
        except BackendError as error:  # raised again where the block ends
            self._error = error

    def _sample(self) -> None:
        self._samples.append((time.perf_counter(), self._meter.read()))
