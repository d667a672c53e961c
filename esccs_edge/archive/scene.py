"""One scene of an archive's work list."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ArchiveScene:
    """One scene of the list.

    Attributes:
        id: Name of the scene, once in a list.
        optical: Optical raster, or None.
        sar: SAR raster, or None.
        problem: Why the list's entry cannot be classified; empty if it can be tried.
    """

    id: str
    optical: Path | None
    sar: Path | None
    problem: str = ""

    def to_json(self) -> str:
        """Return the JSON text."""
        paths = [None if path is None else str(path) for path in (self.optical, self.sar)]
        return json.dumps([self.id, *paths, self.problem])

    @classmethod
    def from_json(cls, text: str) -> ArchiveScene:
        """Parse what `to_json` wrote."""
        name, optical, sar, problem = json.loads(text)
        return cls(name, optical and Path(optical), sar and Path(sar), problem)
