"""What measured times depend on: processor, cores, system, library versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..system.cores import usable_cores
from ..system.packages import installed_version

LIBRARIES = ("numpy", "openvino", "esccs-edge")


def host(libraries: Sequence[str] = LIBRARIES) -> dict[str, Any]:
    """Return processor, usable cores, load and system, and the version of each library or None."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name.replace("-", "_"): installed_version(name) for name in libraries},
    }


def _processor() -> str:
    """Return the model name: Linux has it in /proc/cpuinfo, others in the platform module."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.lower().startswith(("model name", "model\t")) and ":" in line:
                name = line.split(":", 1)[1].strip()
                if not name.isdigit():
                    return name
    return platform.processor() or platform.machine()
