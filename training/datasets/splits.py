"""Train, validation and test shares by place: no group may stand on two sides.

Neighboring patches look alike, so a random split flatters a model (EuroSAT: a random forest has
0.817 on random folds and 0.764 by place). Many seeded greedy assignments are tried and the one
with the most even class shares is kept.

A data set without splits of its own has one test set, whatever the seed of a run: a seed changes
which of the other places train and which validate. So places that chose an option on one seed are
not judged on another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from esccs_edge.errors import InputError

from .dataset import SPLITS

SHARES = (0.60, 0.15, 0.25)
ATTEMPTS = 40
#: Seed of the one test set.
JUDGED_SEED = 0


def split_with_one_test_set(
    labels: npt.NDArray[np.int64],
    groups: Sequence[str],
    seed: int = 0,
    *,
    judged: Collection[str] = (),
    spared: Collection[str] = (),
    every_class: bool = True,
) -> tuple[str, ...]:
    """Return the split of each sample: test is always the same, the rest is divided by seed.

    Args:
        labels: ``(N,)`` class of each sample.
        groups: Group of each sample.
        seed: Of the division into training and validation.
        judged: Groups that are the test set; empty: a quarter of the groups that are not spared.
        spared: Groups that may not be judged, such as those on which options were chosen.
        every_class: Refuse a split that lacks a class.

    Raises:
        InputError: Some class has too few groups to stand in every split.
    """
    names = np.asarray(groups)
    is_judged = np.isin(names, list(judged))
    train, val, test = SHARES
    if not judged:
        free = np.flatnonzero(~np.isin(names, list(spared)))
        share = min(test * len(names) / max(len(free), 1), 0.5)
        parts = split_by_group(
            labels[free], names[free].tolist(), JUDGED_SEED, (1 - share, 0.0, share),
            every_class=every_class,
        )  # fmt: skip
        is_judged[free[np.asarray(parts) == "test"]] = True
    rest = np.flatnonzero(~is_judged)
    shares = (train / (train + val), val / (train + val), 0.0)
    found = np.full(len(names), "test", dtype="<U5")
    found[rest] = split_by_group(
        labels[rest], names[rest].tolist(), seed, shares, every_class=every_class
    )
    return tuple(found.tolist())


def split_by_group(
    labels: npt.NDArray[np.int64],
    groups: Sequence[str],
    seed: int = 0,
    shares: tuple[float, float, float] = SHARES,
    *,
    every_class: bool = True,
) -> tuple[str, ...]:
    """Return ``"train"``, ``"val"`` or ``"test"`` for each sample, stratified by class.

    Args:
        labels: ``(N,)`` class of each sample.
        groups: Group of each sample; all samples of a group get the same split.
        seed: Same seed, same split.
        shares: Wanted share of each class in the three splits.
        every_class: Refuse a split that lacks a class.

    Raises:
        InputError: Some class has too few groups to stand in every split.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(counts, (member, labels), 1)
    if not every_class:
        # Classes that stand in one place pull all places to one side; the total pulls back.
        total = np.repeat(counts.sum(axis=1, keepdims=True), counts.shape[1], axis=1)
        counts = np.column_stack([counts, total])
    wanted = np.outer(shares, counts.sum(axis=0))
    rng = np.random.default_rng(seed)
    best = min((_assign(counts, wanted, rng) for _ in range(ATTEMPTS)), key=lambda found: found[0])
    totals = np.stack([counts[best[1] == part].sum(axis=0) for part in range(3)])
    asked = np.asarray(shares) > 0
    lacking = np.flatnonzero((totals[asked] == 0).any(axis=0) & (wanted.sum(axis=0) > 0)).tolist()
    if lacking and every_class:
        raise InputError(
            f"classes {lacking} stand in too few groups to be in every split",
            hint="Give the data set its own split column, or add places of these classes",
        )
    return tuple(SPLITS[part] for part in best[1][member])


def folds_by_group(
    labels: npt.NDArray[np.int64], groups: Sequence[str], count: int, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Return the fold ``0..count-1`` of each sample; a group lies in one, classes spread evenly.

    Args:
        labels: ``(N,)`` class of each sample; -1 (unknown) counts as a class of its own.
        groups: Group of each sample.
        count: Folds.
        seed: Same seed, same folds.

    Raises:
        InputError: There are fewer groups than folds.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < count:
        raise InputError(
            f"{len(names)} groups make no {count} folds by group", hint="Ask for fewer folds"
        )
    counts = np.zeros((len(names), int(labels.max()) + 2))
    np.add.at(counts, (member, labels), 1)
    wanted = np.tile(counts.sum(axis=0) / count, (count, 1))
    rng = np.random.default_rng(seed)
    best = min((_assign(counts, wanted, rng) for _ in range(ATTEMPTS)), key=lambda found: found[0])
    return np.asarray(best[1][member], np.int64)


def _assign(
    counts: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, npt.NDArray[np.int64]]:
    """Place groups, largest first with ties and near-ties shuffled, where the lack is greatest."""
    order = np.argsort(-counts.sum(axis=1) * rng.uniform(0.5, 1.5, len(counts)))
    scale = 1.0 / np.maximum(wanted, 1.0)
    part_of = np.zeros(len(counts), np.int64)
    lack = wanted.copy()
    for group in order:
        gain = [_error(lack[p] - counts[group], scale[p]) - _error(lack[p], scale[p])
                for p in range(len(wanted))]  # fmt: skip
        part = int(np.argmin(gain))
        part_of[group] = part
        lack[part] -= counts[group]
    return float(np.sum((lack * scale) ** 2)), part_of


def _error(lack: npt.NDArray[np.float64], scale: npt.NDArray[np.float64]) -> float:
    return float(np.sum((lack * scale) ** 2))


def place_splits(
    groups: Iterable[str], held_out: Collection[str], count: int, seed: int
) -> tuple[tuple[str, str], ...]:
    """Name the split of each place that does not train.

    Args:
        groups: Place of each pair.
        held_out: Places of the test split.
        count: How many of the others train; 0: all. They are the first in an order of all places,
            so that the places of a small number are among those of a larger one.
        seed: Of that order.

    Returns:
        ``(place, "test")`` of those held out, ``(place, "")`` of those left out.

    Raises:
        InputError: There are fewer places.
    """
    order = np.random.default_rng(seed).permutation(sorted(set(groups))).tolist()
    others = [place for place in order if place not in held_out]
    if count > len(others):
        raise InputError(
            f"{count} places are to train, expected at most {len(others)}: there are no more "
            "beside those held out"
        )
    left_out = others[count:] if count else []
    return (*((place, "test") for place in sorted(held_out)), *((place, "") for place in left_out))
