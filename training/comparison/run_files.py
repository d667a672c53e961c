"""Where the runs of a comparison are, and what they took."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esccs_edge.contracts.types import Array
from esccs_edge.system.atomic import write_atomic

from ..kept_files import kept_arrays, kept_json

Row = dict[str, Any]


@dataclass(frozen=True)
class RunFiles:
    """The files of a comparison.

    Attributes:
        folder: Of the comparison.
    """

    folder: Path

    def record(self, name: str, seed: int) -> Path:
        """Return the file of a finished run."""
        return self.folder / "runs" / f"{name}-{seed}.json"

    def answers(self, name: str, seed: int) -> Path:
        """Return the file of what a run answered, as its task keeps it."""
        return self.folder / "runs" / f"{name}-{seed}.npz"

    def answered(
        self, name: str, seed: int, needed: Collection[str], also: Collection[str] = ()
    ) -> dict[str, Array]:
        """Read the arrays of that file; see `kept_arrays`."""
        return kept_arrays(self.answers(name, seed), needed, also, record=self.record(name, seed))

    def networks(self, seed: int) -> Path:
        """Return the folder of a seed's checkpoints."""
        return self.folder / f"seed-{seed}"

    def records(self, seeds: Mapping[str, int]) -> dict[str, list[Row]]:
        """Read the finished runs of each row.

        Args:
            seeds: Row -> with how many seeds it ran.
        """
        return {
            name: [kept_json(self.record(name, seed)) for seed in range(count)]
            for name, count in seeds.items()
        }

    def shared_times(self, seed: int) -> dict[str, float]:
        """Return the core-seconds of what the rows of a seed share, by part."""
        file = self._shared(seed)
        return kept_json(file) if file.is_file() else {}

    def write_shared_times(self, seed: int, times: dict[str, float]) -> None:
        """Keep them."""
        write_atomic(self._shared(seed), json.dumps(times) + "\n")

    def core_hours(self, runs: Iterable[Row]) -> dict[str, float]:
        """Return what finished runs took of their own, and what the rows of their seeds share."""
        found = list(runs)
        shared = [sum(self.shared_times(seed).values()) for seed in {run["seed"] for run in found}]
        own = sum(run["cpu_s"] for run in found)
        return {"rows": own / 3600, "shared": sum(shared) / 3600}

    def missing(self, names: tuple[str, ...], seed: int) -> list[str]:
        """Return the methods that a seed still lacks."""
        return [name for name in names if not self.record(name, seed).is_file()]

    def _shared(self, seed: int) -> Path:
        return self.networks(seed) / "shared.json"
