"""A data set with its splits made anew: one fold by place is held out, or nothing is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..datasets import PairDataset, RawPair
from ..datasets.splits import hold_out_fold
from ..options import FoldOptions


class FoldedDataset:
    """All pairs of a data set, with other splits; see `splits.hold_out_fold`.

    Args:
        dataset: The data set.
        options: Which fold is held out; ``options.count`` is not 0.

    Raises:
        InputError: The data set has fewer groups than folds.
    """

    def __init__(self, dataset: PairDataset, options: FoldOptions) -> None:
        self.dataset = dataset
        self.name, self.classes = dataset.name, dataset.classes
        self.labels: npt.NDArray[np.int64] = np.asarray(dataset.labels, np.int64)
        self.groups, self.covers = dataset.groups, dataset.covers
        self.optical_channels, self.sar_channels = dataset.optical_channels, dataset.sar_channels
        self.simulated: tuple[str, ...] = tuple(getattr(dataset, "simulated", ()))
        self.splits = hold_out_fold(
            self.labels, self.groups, options.count, options.held_out, options.seed
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def pair(self, index: int) -> RawPair:
        """Return (optical, SAR), raw; see `PairDataset`."""
        return self.dataset.pair(index)


def with_folds(dataset: PairDataset, options: FoldOptions) -> PairDataset:
    """Return the data set itself, or with one fold held out where the options ask for folds."""
    return FoldedDataset(dataset, options) if options.count else dataset
