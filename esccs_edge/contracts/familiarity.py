"""How far from its training data a model still knows its way.

The network answers, for each modality, the distance of what it sees from the training data, in a
unit in which training samples lie at about 1. Which distance is too far is a statistic of samples
from places left out; it stands in the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .modality import require


@dataclass(frozen=True)
class Familiarity:
    """Which distances of one modality are familiar, and how that was found.

    Attributes:
        threshold: Largest familiar distance.
        quantile: Share of the samples of the least familiar kind that lie at or below it.
        samples: How many were measured.
        places: At how many places. Each was measured by a fit that had not seen its place.
        quantiles: Kind of sample, such as ``"clear"`` -> quantile, such as ``"0.95"`` -> distance.
    """

    threshold: float
    quantile: float
    samples: int
    places: int
    quantiles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.threshold > 0, "threshold", self.threshold, "a positive number")
        require(0 < self.quantile < 1, "quantile", self.quantile, "a share between 0 and 1")
        require(self.samples > 0, "samples", self.samples, "1 or more")
        require(self.places > 0, "places", self.places, "1 or more")
