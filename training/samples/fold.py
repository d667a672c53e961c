"""A data set with the splits of one fold instead of its own."""

from __future__ import annotations

import numpy as np

from ..datasets import PairDataset
from ..datasets.splits import folds_by_group
from ..scene_options import FoldOptions
from .with_splits import WithSplits


class FoldDataset(WithSplits):
    """A `PairDataset` whose held-out fold is the test split and whose other pairs train.

    Args:
        dataset: The whole data set; its own splits do not count.
        options: Which fold; of one fold nothing is held out.
        seed: Seed of the folds.
    """

    def __init__(self, dataset: PairDataset, options: FoldOptions, seed: int) -> None:
        fold = folds_by_group(np.asarray(dataset.labels), dataset.groups, options.count, seed)
        held_out = (fold == options.held_out) & (options.count > 1)
        super().__init__(dataset, tuple("test" if out else "train" for out in held_out))
