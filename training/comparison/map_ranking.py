"""Rows of semantic segmentation in mIoU: alone, and one against another.

An IoU is of pixels that are summed over places, so whole places are drawn, and seeds beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from esccs_edge.contracts.types import Doubles
from esccs_edge.system.atomic import atomic_path

from ..judging.map_metrics import miou
from .run_files import RunFiles
from .significance import Difference, crossed

#: Which confusion matrices of ``(bins, skies)`` a measure is of, as `map_metrics` stores them.
SKIES: Mapping[str, Sequence[int]] = {"all": (0, 1, 2), "clear": (0,), "cloudy": (1,)}


@dataclass(frozen=True)
class RecordedCounts:
    """What one (method, seed) counted.

    Attributes:
        places: Names of the judged places.
        counts: ``(places, bins + 1, 3, K, K + 1)``; see `map_metrics.PixelCounts`.
    """

    places: tuple[str, ...]
    counts: Doubles

    def write(self, files: RunFiles, name: str, seed: int) -> None:
        """Write a compressed ``.npz``."""
        target = files.answers(name, seed)
        with atomic_path(target) as partial, open(partial, "wb") as stream:
            np.savez_compressed(
                stream, counts=self.counts.astype(np.int64), places=np.array(self.places)
            )

    @classmethod
    def read(cls, files: RunFiles, name: str, seed: int) -> RecordedCounts:
        """Read what `write` wrote."""
        stored = files.answered(name, seed, ("places", "counts"))
        return cls(tuple(stored["places"].tolist()), stored["counts"].astype(np.float64))


#: Method -> what it counted, one entry per seed.
Counted = Mapping[str, Sequence[RecordedCounts]]


def miou_alone(counted: Counted, name: str, pixels: str) -> Difference | None:
    """Return a row's mIoU of all, clear or cloudy pixels; None where there are no such pixels."""
    matrices = _matrices(counted[name], pixels)
    return crossed([matrices], miou) if matrices.any() else None


def miou_lead(counted: Counted, first: str, second: str, pixels: str = "all") -> Difference | None:
    """Return one row's mIoU minus another's, over the seeds that both ran; None without pixels."""
    seeds = min(len(counted[first]), len(counted[second]))
    one, other = (_matrices(counted[name][:seeds], pixels) for name in (first, second))
    return crossed([one, other], _miou_gained) if one.any() else None


def _miou_gained(first: Doubles, second: Doubles) -> Doubles:
    return miou(first) - miou(second)


def _matrices(runs: Sequence[RecordedCounts], pixels: str) -> Doubles:
    """Confusion matrices ``(seeds, places, K, K + 1)``, zeros for a place that a seed lacks."""
    names = sorted({place for run in runs for place in run.places})
    found = np.zeros((len(runs), len(names), *runs[0].counts.shape[-2:]))
    for number, run in enumerate(runs):
        where = [names.index(place) for place in run.places]
        found[number, where] = run.counts[:, :, SKIES[pixels]].sum(axis=(1, 2))
    return found
