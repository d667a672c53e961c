"""Benchmark B4 as one data set: a labeled clear source, and real cloudy pairs as the target.

The source teaches with labels and clear optical images and has no SAR. The target learns without
labels and without clear images; whole places of it are held out, and there alone a judge's labels
and clear images are handed out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError

from ..datasets import PairDataset, RawPair, open_dataset
from ..datasets.clear_judge import with_judge
from ..datasets.splits import folds_by_group
from ..datasets.triplets import Chips
from ..scene_options import FoldOptions, TrainOptions


class RealTargetDataset:
    """All pairs of the source, then all chips of the target.

    Source pairs train, whatever their own split. Chips of held-out places are judged (``"test"``)
    where the judge is sure of them and are in no split elsewhere; all other chips train as -1.

    Args:
        source: Labeled optical images.
        chips: Real chips with a judge's labels; see `clear_judge.with_judge`.
        folds: Which fold of the places is held out; at least two.

    Raises:
        InputError: The channels differ, the judge knows a class that the source does not teach, or
            there are fewer places than folds.
    """

    def __init__(self, source: PairDataset, chips: Chips, folds: FoldOptions) -> None:
        if source.optical_channels != chips.optical_channels:
            raise InputError(
                f"optical channels of {source.name} are {source.optical_channels}, expected those "
                f"of {chips.name}, {chips.optical_channels}"
            )
        if unknown := sorted(set(chips.classes) - set(source.classes)):
            raise InputError(
                f"the judge knows the classes {unknown}, expected among {list(source.classes)}"
            )
        if folds.count < 2:
            raise InputError(
                f"option 'folds.count' is {folds.count}, expected 2 or more: places are held out"
            )
        self.source, self.chips = source, chips
        self.name, self.classes = f"{source.name} -> {chips.name}", source.classes
        self.optical_channels, self.sar_channels = chips.optical_channels, chips.sar_channels
        self.groups = (*source.groups, *chips.groups)
        self.covers = np.concatenate([source.covers, chips.covers])
        unlabeled = np.full(len(chips), -1, np.int64)
        fold = folds_by_group(unlabeled, chips.groups, folds.count)
        held_out = fold == folds.held_out
        place = np.array([source.classes.index(name) for name in chips.classes] + [-1], np.int64)
        known = place[chips.labels]
        self.labels: npt.NDArray[np.int64] = np.concatenate(
            [np.asarray(source.labels, np.int64), np.where(held_out, known, -1)]
        )
        self.splits = (
            *("train" for _ in range(len(source))),
            *(
                "train" if not out else "test" if label >= 0 else ""
                for out, label in zip(held_out.tolist(), known.tolist(), strict=True)
            ),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def pair(self, index: int) -> RawPair:
        """Return (optical, SAR), raw; a source pair has no SAR."""
        first = len(self.source)
        if index < first:
            return self.source.pair(index)[0], None
        return self.chips.pair(index - first)

    def clear(self, index: int) -> Array:
        """Return the clear image of a judged chip; of any other pair the image that it shows."""
        if self.splits[index] == "test":
            return self.chips.clear(index - len(self.source))
        optical, _ = self.pair(index)
        if optical is None:
            raise InputError(f"pair {index} of {self.name} has no optical image")
        return optical


def open_real_target(
    source: str, target: str, judge: str, options: TrainOptions
) -> RealTargetDataset:
    """Open source and target, of which the fold ``options.seed`` (modulo the folds) is held out.

    Raises:
        InputError: The target is not real triplets, the options do not fit, or as
            `RealTargetDataset` and `clear_judge.with_judge`.
    """
    chips = open_dataset(target)
    if not isinstance(chips, Chips):
        raise InputError(
            f"the judged data set is {target!r}, expected real triplets such as sen12ms-cr:PATH"
        )
    if not options.target_unlabeled or options.clouds.simulate:
        raise InputError(
            "a target of real chips needs target_unlabeled = true and clouds.simulate = false",
            hint="Start from training/configs/b4-real.toml",
        )
    count = options.folds.count
    folds = FoldOptions(count, options.seed % count) if count else options.folds
    return RealTargetDataset(open_dataset(source), with_judge(chips, judge), folds)
