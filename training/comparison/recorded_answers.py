"""What a method answered on every judged pair, in one compact file per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, cloud_bin
from esccs_edge.system.atomic import atomic_path

from ..judging.judge import Judged
from .run_files import RunFiles

#: Highest cover of the regime that ESCCS is made for, patches that are partly contaminated.
PARTLY = 0.6


@dataclass(frozen=True)
class RecordedAnswers:
    """The answers of one (method, seed), in the order that all methods of the seed share.

    Attributes:
        judged: Labels, probabilities and covers.
        places: ``(N,)`` number of each pair's group.
        optical_share: ``(N,)`` gate weight of optical, or None where the method has no gate.
    """

    judged: Judged
    places: npt.NDArray[np.int64]
    optical_share: npt.NDArray[np.float64] | None

    @classmethod
    def joined(cls, runs: Sequence[RecordedAnswers]) -> RecordedAnswers:
        """Join runs that were judged on different places, each pair answered once."""
        judged = Judged(
            np.concatenate([run.judged.labels for run in runs]),
            np.concatenate([run.judged.probabilities for run in runs]),
            np.concatenate([run.judged.cover for run in runs]),
        )
        return cls(judged, np.concatenate([run.places for run in runs]), None)

    def partly_clouded(self) -> RecordedAnswers:
        """Return the answers on pairs that are at most partly clouded: `PARTLY` and less."""
        chosen = self.judged.cover <= PARTLY
        share = self.optical_share
        judged = Judged(
            self.judged.labels[chosen], self.judged.probabilities[chosen], self.judged.cover[chosen]
        )
        return RecordedAnswers(
            judged, self.places[chosen], None if share is None else share[chosen]
        )

    def write(self, files: RunFiles, name: str, seed: int) -> None:
        """Write a compressed ``.npz``; probabilities and shares as float32."""
        arrays: dict[str, Any] = {
            "labels": self.judged.labels.astype(np.int16),
            "probabilities": self.judged.probabilities.astype(np.float32),
            "cover": self.judged.cover.astype(np.float32),
            "places": self.places.astype(np.int32),
        }
        if self.optical_share is not None:
            arrays["optical_share"] = self.optical_share.astype(np.float32)
        with atomic_path(files.answers(name, seed)) as partial, open(partial, "wb") as stream:
            np.savez_compressed(stream, **arrays)

    @classmethod
    def read(cls, files: RunFiles, name: str, seed: int) -> RecordedAnswers:
        """Read what `write` wrote."""
        needed = ("labels", "probabilities", "cover", "places")
        stored = files.answered(name, seed, needed, also=("optical_share",))
        judged = Judged(
            stored["labels"].astype(np.int64),
            stored["probabilities"].astype(np.float64),
            stored["cover"].astype(np.float64),
        )
        share = stored.get("optical_share")
        return cls(
            judged,
            stored["places"].astype(np.int64),
            None if share is None else share.astype(np.float64),
        )


def by_bin(values: npt.NDArray[np.float64], cover: npt.NDArray[np.float64]) -> list[float | None]:
    """Mean of values per cloud bin; None where no pair falls in. NaN covers do not count."""
    place = np.array([-1 if np.isnan(c) else cloud_bin(c) for c in cover])
    parts = [values[place == position] for position in range(len(CLOUD_BINS))]
    return [float(part.mean()) if len(part) else None for part in parts]


def rank_correlation(by_cloud: list[float | None]) -> float | None:
    """Spearman's correlation of a value with the cloud bin; None if there are fewer than three."""
    known = np.array([value for value in by_cloud if value is not None])
    if len(known) < 3:
        return None
    ranks = known.argsort().argsort()
    return float(np.corrcoef(ranks, np.arange(len(known)))[0, 1])
