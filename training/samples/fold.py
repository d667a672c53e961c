"""A data set with the splits of one fold instead of its own."""

from __future__ import annotations

import numpy as np

from ..datasets import PairDataset, RawPair
from ..datasets.splits import folds_by_group
from ..options import FoldOptions


class FoldDataset:
    """A `PairDataset` whose held-out fold is the test split and whose other pairs train.

    Args:
        dataset: The whole data set; its own splits do not count.
        options: Which fold; of one fold nothing is held out.
        seed: Seed of the folds.
    """

    def __init__(self, dataset: PairDataset, options: FoldOptions, seed: int) -> None:
        self.dataset = dataset
        self.name, self.classes = dataset.name, dataset.classes
        self.labels, self.groups = dataset.labels, dataset.groups
        self.optical_channels, self.sar_channels = dataset.optical_channels, dataset.sar_channels
        self.covers = dataset.covers
        fold = folds_by_group(np.asarray(dataset.labels), dataset.groups, options.count, seed)
        held_out = (fold == options.held_out) & (options.count > 1)
        self.splits = tuple("test" if out else "train" for out in held_out)

    def __len__(self) -> int:
        return len(self.dataset)

    def pair(self, index: int) -> RawPair:
        """Return (optical, SAR), raw; see `PairDataset`."""
        return self.dataset.pair(index)
