"""Where a bundle comes from: data, what was simulated, code, versions, options, numbers."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from collections import Counter
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from esccs_edge import __version__

from .options import Branch, TrainOptions
from .stages.chain import Chain

PACKAGES = ("torch", "lightning", "numpy", "safetensors")


def provenance(chain: Chain, metrics: dict[str, Any]) -> dict[str, Any]:
    """Describe a finished run for the manifest.

    Args:
        chain: The trained networks and their data.
        metrics: What was measured, by split.

    Returns:
        ``data``, ``simulated``, ``metrics``, ``options``, ``seed``, ``versions``, ``commit``
        (if known), ``created``.
    """
    options = chain.options
    found = {
        "data": {
            "name": chain.source.name,
            "pairs": dict(Counter(chain.source.splits)),
            "split": "by group; no group is in two splits",
        },
        "simulated": _simulated(chain),
        "metrics": metrics,
        "options": _options(options),
        "seed": options.seed,
        "versions": _versions(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    if commit := _commit():
        found["commit"] = commit
    return found


def architecture(chain: Chain) -> dict[str, Any]:
    """Return what export rebuilds the student from: the sizes of its branches."""
    student = chain.options.student
    return {"optical": _branch(student.optical), "sar": _branch(student.sar)}


def _options(options: TrainOptions) -> dict[str, Any]:
    """All options but paths, which mean nothing on another machine."""
    found = {k: v for k, v in options.as_dict().items() if k not in ("data", "out")}
    return {**found, "clouds": {**found["clouds"], "textures": Path(options.clouds.textures).name}}


def _branch(branch: Branch) -> dict[str, Any]:
    return {**dataclasses.asdict(branch), "blocks": list(branch.blocks)}


def _simulated(chain: Chain) -> dict[str, str]:
    clouds = chain.options.clouds
    simulated = {}
    if not chain.source.sar_channels:
        simulated["sar"] = (
            "all SAR patches are simulated from the clear optical patch and its class"
        )
    if clouds.simulate:
        real = ", half of them with shapes and spectra of real clouds" if clouds.textures else ""
        simulated["clouds"] = "all clouds are simulated" + real
    return simulated


def _versions() -> dict[str, str]:
    versions = {"esccs-edge": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a package installed without metadata
            versions[package] = "unknown"
    return versions


def _commit() -> str | None:
    """Commit of the checkout this code runs from; None where it is not one."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
