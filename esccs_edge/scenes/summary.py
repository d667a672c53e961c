"""What a whole-scene run reports: shares and means over its pixels, counted row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class SceneSummary:
    """What a scene run did.

    Attributes:
        class_map: The written class map.
        scores: The written scores.
        height: Rows of the scene.
        width: Columns of the scene.
        patches: Patches handed to the model.
        refused_patches: Patches whose values the model refused; they count for nothing.
        class_shares: Class name -> share of the answered pixels.
        mean_confidence: Mean over the answered pixels; None if there are none.
        mean_gate_optical: Mean share of optical in the decision, likewise.
        nodata_share: Share of all pixels that have no answer.
        seconds: Wall time.
    """

    class_map: Path
    scores: Path
    height: int
    width: int
    patches: int
    refused_patches: int
    class_shares: dict[str, float]
    mean_confidence: float | None
    mean_gate_optical: float | None
    nodata_share: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; paths become strings."""
        return {**asdict(self), "class_map": str(self.class_map), "scores": str(self.scores)}


class Tally:
    """Running counts over the pixels of one scene."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._counts = np.zeros(len(classes), np.int64)
        self._confidence = 0.0
        self._gate_optical = 0.0

    def add(
        self,
        classes: npt.NDArray[np.integer[Any]],
        confidence: npt.NDArray[np.float32],
        gate_optical: npt.NDArray[np.float32],
    ) -> None:
        """Count answered pixels, given as three flat arrays of one length."""
        self._counts += np.bincount(classes, minlength=len(self._counts))
        self._confidence += float(confidence.sum(dtype=np.float64))
        self._gate_optical += float(gate_optical.sum(dtype=np.float64))

    @property
    def answered(self) -> int:
        """Pixels with an answer."""
        return int(self._counts.sum())

    def shares(self) -> dict[str, float]:
        """Return class name -> share of the answered pixels; all 0 if there are none."""
        shares = self._counts / max(self.answered, 1)
        return dict(zip(self._classes, shares.tolist(), strict=True))

    @property
    def mean_confidence(self) -> float | None:
        """Mean confidence of the answered pixels, or None."""
        return self._confidence / self.answered if self.answered else None

    @property
    def mean_gate_optical(self) -> float | None:
        """Mean optical gate of the answered pixels, or None."""
        return self._gate_optical / self.answered if self.answered else None
