"""Magnitudes of an activation -> the largest value that INT8 should still represent (``amax``).

Three rules over one histogram of absolute values, so one pass over the data serves all. Symmetric
by construction: the scale is ``amax / 127`` and the zero point 0, as TensorRT asks.

ONNX Runtime's own collectors are not used: with their defaults the entropy search has a single
candidate (as many bins as levels), which makes it the maximum rule under another name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from esccs_edge.errors import ArtifactError

BINS = 2048
#: Magnitudes an int8 can tell apart on one side of zero, with 0.
LEVELS = 128
#: Share of values, in percent, that the percentile rule keeps unclipped.
PERCENTILE = 99.99
#: The entropy search tries every n-th bin; a finer step moves amax by less than 0.4 %.
ENTROPY_STRIDE = 8


class Histogram:
    """Counts of ``abs(x)`` in `BINS` equal bins over ``[0, limit]``.

    The limit doubles when a larger value comes, by merging bins in pairs: counts stay exact.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.limit = 0.0
        self.largest = 0.0

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count the values of an array of any shape.

        Raises:
            ArtifactError: A value is not finite, so the float model is broken.
        """
        magnitudes = np.abs(values, dtype=np.float32).ravel()
        largest = float(magnitudes.max(initial=0.0))
        if not math.isfinite(largest):
            raise ArtifactError(
                f"the float model computes {largest} on a calibration pair, expected finite values",
                hint="Its weights are damaged or training diverged; train or export again",
            )
        self.largest = max(self.largest, largest)
        if largest > 0:
            self._reach(largest)
        shares = magnitudes / np.float32(self.limit or 1.0)
        bins = np.minimum((shares * np.float32(BINS)).astype(np.int32), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def _reach(self, largest: float) -> None:
        if not self.limit:
            self.limit = largest
            # Values seen so far were all 0 and stand in the first bin already.
        while self.limit < largest:
            self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[BINS // 2 :] = 0
            self.limit *= 2

    def edge(self, bins: int) -> float:
        """Return the upper edge of the first ``bins`` bins, at most the largest value seen."""
        return min(bins * self.limit / BINS, self.largest)


def amax_by_maximum(histogram: Histogram) -> float:
    """Return the largest magnitude seen: nothing is clipped."""
    return histogram.largest


def amax_by_percentile(histogram: Histogram) -> float:
    """Return the magnitude below which `PERCENTILE` percent of the values lie."""
    cumulative = np.cumsum(histogram.counts)
    wanted = PERCENTILE / 100 * cumulative[-1]
    return histogram.edge(int(np.searchsorted(cumulative, wanted)) + 1)


def amax_by_entropy(histogram: Histogram) -> float:
    """Return the magnitude whose 128 levels lose the least information (Migacz, GTC 2017).

    For each candidate the clipped distribution is compared with its quantized form by
    Kullback-Leibler divergence. Exact zeros (all that ReLU removed) say nothing about the scale,
    so the first bin is left out.
    """
    counts = histogram.counts.astype(np.float64)
    counts[0] = 0
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    candidates = range(LEVELS, used + ENTROPY_STRIDE, ENTROPY_STRIDE)
    if used <= LEVELS:
        return histogram.largest
    losses = [_divergence(counts, min(end, used)) for end in candidates]
    return histogram.edge(min(candidates[int(np.argmin(losses))], used))


def _divergence(counts: npt.NDArray[np.float64], end: int) -> float:
    """KL(p || q): p is clipped at bin ``end``, q spreads each of `LEVELS` levels over its bins."""
    kept = counts[:end]
    level = np.arange(end) * LEVELS // end
    occupied = kept > 0
    per_level = np.bincount(level, kept, LEVELS)
    width = np.bincount(level, occupied, LEVELS)
    q = np.where(occupied, (per_level / np.maximum(width, 1))[level], 0.0)
    p = kept.copy()
    p[-1] += counts[end:].sum()
    if not q.any():
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    seen = p > 0
    # Clipped mass may fall on a bin where q is empty; the floor makes that costly, not infinite.
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-9))))


AMAX_METHODS: dict[str, Callable[[Histogram], float]] = {
    "max": amax_by_maximum,
    "entropy": amax_by_entropy,
    "percentile": amax_by_percentile,
}
