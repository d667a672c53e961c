"""Is this real data? INT8 ranges measured on constant, random or mislabeled pixels are worthless.

Three statistics that no real set of patches fails, all on preprocessed pixels:

* a modality whose pixels do not vary within any patch is constant;
* a modality is noise when neighboring pixels do not resemble each other *and* patches do not
  differ from each other more than independent pixels would make them (the F ratio of patch means).
  Speckle alone fails the first, so both must fail;
* labels say nothing when mixing them up explains the patch means as well as they do (a permutation
  test on the share of variance between classes). Of maps of classes a grid of pixels is explained
  instead, and whole maps are mixed up; of a series of one pixel, the means of parts of the season.
  Few patches tell too little in this way, so labels count too that the float model answers
  more often than when they are mixed up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from esccs_edge.contracts.types import Doubles, Labels
from esccs_edge.errors import InputError

from .batches import Batch

#: Correlation of horizontal neighbors: 0 for white noise, above 0.5 for resolved ground.
MIN_NEIGHBOR_CORRELATION = 0.1
#: Variance of patch means over that of independent pixels: 1 for noise, hundreds for real images.
MIN_PATCH_F_RATIO = 3.0
#: Probability of the labels' explained variance under chance, above which data is refused.
MAX_CLASS_P_VALUE = 0.05
#: The same of the float model's agreement, which is asked besides and so has to be clearer.
MAX_AGREEMENT_P_VALUE = 0.01
PERMUTATIONS = 199
#: Rows and columns of the grid of pixels on which a map of classes is judged.
MAP_GRID = 8


@dataclass
class DataCheck:
    """Gathers per-patch statistics batch by batch, then judges them.

    A modality's labels and the values that they should explain are ``(L,)`` and ``(L, C)`` per
    patch: its class and its means, or both on a grid of its pixels.
    """

    _correlations: dict[str, list[float]] = field(default_factory=dict)
    _means: dict[str, list[Doubles]] = field(default_factory=dict)
    _variances: dict[str, list[Doubles]] = field(default_factory=dict)
    _labels: dict[str, list[Labels]] = field(default_factory=dict)
    _explained: dict[str, list[Doubles]] = field(default_factory=dict)
    _pixels: int = 0

    def add(self, batch: Batch) -> None:
        """Take in the present patches of a batch."""
        for name in sorted({name for pair in batch.pairs for name in pair.modalities}):
            pixels = batch.inputs[name].astype(np.float64)
            self._pixels = pixels.shape[2] * pixels.shape[3]
            for patch, pair, label in zip(pixels, batch.pairs, batch.labels, strict=True):
                if name in pair.modalities:
                    self._add_patch(name, patch, label)

    def require_real(self, seed: int, agreement: float | None = None) -> dict[str, float]:
        """Return the statistics by name.

        Args:
            seed: Of the mixing.
            agreement: `agreement_p_value` of the float model, where it was asked.

        Raises:
            InputError: The data is constant, noise, or its labels have nothing to do with it.
        """
        found = {} if agreement is None else {"agreement_p_value": agreement}
        p_values = []
        for name in sorted(self._means):
            correlation, ratio = self._require_structure(name)
            p_value = self._class_p_value(name, np.random.default_rng(seed))
            found[f"{name}_neighbour_correlation"] = correlation  # codespell:ignore neighbour
            found[f"{name}_patch_f_ratio"] = ratio
            found[f"{name}_class_p_value"] = p_value
            p_values.append(p_value)
        is_told = agreement is not None and agreement <= MAX_AGREEMENT_P_VALUE
        if not (is_told or min(p_values) <= MAX_CLASS_P_VALUE):
            asked = "" if agreement is None else ", and the float model answers them no better"
            raise InputError(
                f"the labels explain the pixels no better than chance (p = {min(p_values):.2f}, "
                f"expected at most {MAX_CLASS_P_VALUE}){asked}",
                hint=f"Check that labels and files belong together; if they do, {self._patches} "
                "pairs are too few to tell it: give more",
            )
        return found

    @property
    def _patches(self) -> int:
        return max(map(len, self._means.values()))

    def _add_patch(self, name: str, patch: Doubles, label: Any) -> None:
        rows = patch
        if patch.shape[2] == 1:  # neighbors are the dates of a single pixel, without missing ones
            rows = patch[:, patch.any(axis=(0, 2))].swapaxes(1, 2)
        if rows.shape[2] < 2:
            return
        centered = rows - rows.mean(axis=(1, 2), keepdims=True)
        variance = centered.var(axis=(1, 2))
        lag = (centered[:, :, 1:] * centered[:, :, :-1]).mean(axis=(1, 2))
        alive = variance > 0
        correlation = float(np.mean(lag[alive] / variance[alive])) if alive.any() else np.nan
        self._correlations.setdefault(name, []).append(correlation)
        mean = patch.mean(axis=(1, 2))
        labels, explained = _labeled_values(np.asarray(label, np.int64), mean, patch)
        self._means.setdefault(name, []).append(mean)
        self._variances.setdefault(name, []).append(variance)
        self._labels.setdefault(name, []).append(labels)
        self._explained.setdefault(name, []).append(explained)

    def _require_structure(self, name: str) -> tuple[float, float]:
        correlations = np.array(self._correlations[name])
        if np.isnan(correlations).mean() > 0.5:
            raise InputError(
                f"most {name} patches are constant, expected pixels that vary within a patch",
                hint="Calibrate on real images; check clip, scale and nodata of the input",
            )
        within = np.mean(self._variances[name], axis=0)
        between = np.var(self._means[name], axis=0, ddof=1)
        alive = within > 0
        ratio = float(np.median(self._pixels * between[alive] / within[alive]))
        correlation = float(np.nanmedian(correlations))
        if correlation < MIN_NEIGHBOR_CORRELATION and ratio < MIN_PATCH_F_RATIO:
            raise InputError(
                f"the {name} pixels are noise: neighbors correlate by {correlation:.2f} and patch "
                f"means vary {ratio:.1f} times as much as chance, expected over "
                f"{MIN_NEIGHBOR_CORRELATION} or over {MIN_PATCH_F_RATIO}",
                hint="Ranges measured on random data are worthless; calibrate on real images",
            )
        return correlation, ratio

    def _class_p_value(self, name: str, rng: np.random.Generator) -> float:
        values, labels = np.array(self._explained[name]), np.array(self._labels[name])
        spread = values.std(axis=(0, 1))
        scores = (values - values.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1.0)
        truth = _between_classes(scores, labels)
        chance = [_between_classes(scores, rng.permutation(labels)) for _ in range(PERMUTATIONS)]
        return (1 + sum(value >= truth for value in chance)) / (1 + PERMUTATIONS)


def agreement_p_value(answers: Labels, labels: Labels, seed: int) -> float:
    """Return how often mixed labels agree with a model's answers as often as the given ones do.

    Args:
        answers: ``(N, ...)`` class numbers.
        labels: ``(N, ...)``; -1 is not known and not counted.
        seed: Of the mixing.
    """
    rng = np.random.default_rng(seed)
    truth = _agreement(answers, labels)
    chance = [_agreement(answers, rng.permutation(labels)) for _ in range(PERMUTATIONS)]
    return (1 + sum(value >= truth for value in chance)) / (1 + PERMUTATIONS)


def _agreement(answers: Labels, labels: Labels) -> float:
    known = labels >= 0
    return float(np.mean(answers[known] == labels[known])) if known.any() else 0.0


def _labeled_values(labels: Labels, mean: Doubles, patch: Doubles) -> tuple[Labels, Doubles]:
    """Return labels ``(L,)`` of a patch and the values ``(L, C)`` that they should explain."""
    if labels.ndim == 0 and patch.shape[2] > 1:
        return labels[None], mean[None]
    if labels.ndim == 0:
        return labels[None], _season_means(patch[..., 0])[None]
    images = patch.reshape(-1, *labels.shape)  # of a series each date explains on its own
    rows, columns = (np.linspace(0, size - 1, MAP_GRID).astype(int) for size in labels.shape)
    grid = np.ix_(rows, columns)
    return labels[grid].ravel(), images[:, grid[0], grid[1]].reshape(len(images), -1).T


def _season_means(series: Doubles) -> Doubles:
    """Return the means ``(C * parts,)`` of a series ``(C, T)`` over the valid dates of each part.

    The mean of a whole season says little: crops differ in when they are green.
    """
    parts = np.array_split(series, min(MAP_GRID, series.shape[1]), axis=1)
    counts = [np.count_nonzero(part.any(axis=0)) for part in parts]
    sums = [part.sum(axis=1) for part in parts]
    return np.concatenate([total / max(n, 1) for total, n in zip(sums, counts, strict=True)])


def _between_classes(scores: Doubles, labels: Labels) -> float:
    """Return the sum of squares between classes of standardized values; unknown ones are left out.

    Args:
        scores: ``(N, L, C)``.
        labels: ``(N, L)``.
    """
    total = 0.0
    for label in np.unique(labels[labels >= 0]):
        members = scores[labels == label]
        total += len(members) * float(np.sum(members.mean(axis=0) ** 2))
    return total
