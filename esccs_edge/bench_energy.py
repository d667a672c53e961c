"""Energy of a block of work on the host: RAPL counters of the CPU, or the rails of a Jetson.

Both count the whole package or board, whatever runs on it, idle power included. Where neither can
be read there is no number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .power import EnergyLog, RailMeter


@dataclass
class Energy:
    """What a block of work drew; None until it has ended or where nothing measures it."""

    joules: float | None = None


def energy_source(root: Path = Path("/")) -> str | None:
    """Name what can be read here: ``"rapl"``, ``"rails"`` or None."""
    if _packages(root):
        return "rapl"
    return "rails" if RailMeter.find(root) is not None else None


@contextmanager
def measured(source: str | None, root: Path = Path("/")) -> Iterator[Energy]:
    """Measure the block; `source` is what `energy_source` named."""
    energy = Energy()
    if source == "rapl":
        packages = _packages(root)
        before = [_microjoules(package) for package in packages]
        yield energy
        drawn = [
            _microjoules(package) - start for package, start in zip(packages, before, strict=True)
        ]
        # The counter starts again at 0 after its largest value.
        energy.joules = 1e-6 * sum(
            drawn_uj if drawn_uj >= 0 else drawn_uj + _range(package)
            for package, drawn_uj in zip(packages, drawn, strict=True)
        )
    elif source == "rails" and (meter := RailMeter.find(root)) is not None:
        with EnergyLog(meter) as log:
            yield energy
        energy.joules = log.joules
    else:
        yield energy


def _packages(root: Path) -> list[Path]:
    """Folders of the processor packages; their cores and memory are counted inside."""
    return [
        zone
        for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        if zone.name.count(":") == 1 and _is_package(zone)
    ]


def _is_package(zone: Path) -> bool:
    try:
        return (zone / "name").read_text().startswith("package") and _microjoules(zone) >= 0
    except (OSError, ValueError):  # most systems let only root read the counter
        return False


def _microjoules(zone: Path) -> int:
    return int((zone / "energy_uj").read_text())


def _range(zone: Path) -> int:
    return int((zone / "max_energy_range_uj").read_text())
