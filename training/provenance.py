"""Where a bundle comes from: data, what was simulated, code, versions, options, numbers."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from esccs_edge import __version__

from .datasets.dataset import Dataset
from .stages.training_run import TrainingRun

PACKAGES = ("torch", "lightning", "numpy", "safetensors")


def provenance(
    run: TrainingRun, simulated: Mapping[str, str], metrics: dict[str, Any]
) -> dict[str, Any]:
    """Describe a finished run for the manifest.

    Args:
        run: Its options and data.
        simulated: What of the data was simulated, in words.
        metrics: What was measured, by split.

    Returns:
        ``data``, ``simulated``, ``metrics``, ``options``, ``seed``, ``versions``, ``commit``
        (if known), ``created``, ``init`` (if the run started at a bundle).
    """
    found = {
        "data": {
            "name": run.dataset.name,
            "pairs": dict(Counter(run.dataset.splits)),
            "split": _split(run.dataset),
        },
        "simulated": dict(simulated),
        "metrics": metrics,
        "options": run.options.without_paths(),
        "seed": run.options.seed,
        "versions": _versions(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    if run.initial is not None:
        found["init"] = run.initial.described()
    if commit := _commit():
        found["commit"] = commit
    return found


def _split(dataset: Dataset) -> str:
    if set(dataset.splits) == {"train"}:
        return "none: every pair trained, so heldout/ holds training pairs and measures no accuracy"
    sides: dict[str, set[str]] = {}
    for group, split in zip(dataset.groups, dataset.splits, strict=True):
        sides.setdefault(group, set()).add(split)
    torn = sum(len(splits) > 1 for splits in sides.values())
    return f"by group; {torn or 'no'} group{'s are' if torn > 1 else ' is'} in two splits"


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
