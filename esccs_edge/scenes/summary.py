"""What a whole-scene run reports: shares and means over its pixels, counted row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.types import Bytes, Floats
from ..contracts.values import Flag


@dataclass(frozen=True)
class SceneSummary:
    """What a scene run did.

    Attributes:
        class_map: The written class map.
        scores: The written scores.
        height: Rows of the scene.
        width: Columns of the scene.
        patches: Patches given to the model.
        refused_patches: Patches whose values the model refused; they count for nothing.
        flagged_patches: Flag -> patches whose answers carry it, as `Flag` names them.
        class_shares: Class name -> share of the answered pixels.
        mean_confidence: Mean over the answered pixels; None if there are none.
        mean_layers: Score layer of the task -> its mean, likewise.
        nodata_share: Share of all pixels that have no answer.
        seconds: Wall time.
    """

    class_map: Path
    scores: Path
    height: int
    width: int
    patches: int
    refused_patches: int
    flagged_patches: dict[str, int]
    class_shares: dict[str, float]
    mean_confidence: float | None
    mean_layers: Mapping[str, float | None]
    nodata_share: float
    seconds: float

    @property
    def mean_gate_optical(self) -> float | None:
        """Mean share of optical in the decision; None for a model without that layer."""
        return self.mean_layers.get("gate_optical")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: paths become strings, a layer's mean is ``mean_NAME``."""
        return {
            "class_map": str(self.class_map),
            "scores": str(self.scores),
            "height": self.height,
            "width": self.width,
            "patches": self.patches,
            "refused_patches": self.refused_patches,
            "flagged_patches": dict(self.flagged_patches),
            "class_shares": dict(self.class_shares),
            "mean_confidence": self.mean_confidence,
            **{f"mean_{name}": mean for name, mean in self.mean_layers.items()},
            "nodata_share": self.nodata_share,
            "seconds": self.seconds,
        }


class Tally:
    """Running counts over the pixels of one scene.

    Args:
        classes: Class names.
        layers: Score layers of the task.
    """

    def __init__(self, classes: Sequence[str], layers: Sequence[str]) -> None:
        self._classes = classes
        self._layers = layers
        self._counts = np.zeros(len(classes), np.int64)
        self._confidence = 0.0
        self._sums = [0.0] * len(layers)
        self._flagged = dict.fromkeys(Flag, 0)

    def note(self, flags: Iterable[Flag]) -> None:
        """Count the flags of one patch."""
        for flag in flags:
            self._flagged[flag] += 1

    def add(self, classes: Bytes, confidence: Floats, *layers: Floats) -> None:
        """Count answered pixels, given as flat arrays of one length."""
        self._counts += np.bincount(classes, minlength=len(self._counts))
        self._confidence += float(confidence.sum(dtype=np.float64))
        for i, values in enumerate(layers):
            self._sums[i] += float(values.sum(dtype=np.float64))

    @property
    def state(self) -> npt.NDArray[np.float64]:
        """All counts and sums as ``(classes + 1 + layers + flags,)``, for `restore`."""
        sums = [self._confidence, *self._sums]
        return np.array([*self._counts, *sums, *self._flagged.values()], np.float64)

    def restore(self, state: npt.NDArray[np.float64]) -> None:
        """Go on from a `state`."""
        classes = len(self._counts)
        self._counts = state[:classes].astype(np.int64)
        self._confidence = float(state[classes])
        sums, flagged = np.split(state[classes + 1 :], [len(self._sums)])
        self._sums = [float(total) for total in sums]
        self._flagged = {flag: int(count) for flag, count in zip(Flag, flagged, strict=True)}

    @property
    def flagged(self) -> dict[str, int]:
        """Flag -> patches that carry it, of those that any patch carries."""
        return {flag.value: count for flag, count in self._flagged.items() if count}

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
        return self._mean(self._confidence)

    @property
    def mean_layers(self) -> dict[str, float | None]:
        """Mean of each layer over the answered pixels, or None."""
        return {
            name: self._mean(total) for name, total in zip(self._layers, self._sums, strict=True)
        }

    def _mean(self, total: float) -> float | None:
        return total / self.answered if self.answered else None
