"""A data set whose pairs stand in other splits than its own."""

from __future__ import annotations

from ..datasets import PairDataset, RawPair
from ..datasets.dataset import HasClearImages


class WithSplits:
    """A `PairDataset` that differs from another in its splits alone.

    Args:
        dataset: The other one; where it has clear images, so has this.
        splits: Split of each pair; pairs of ``""`` are left out.
    """

    def __init__(self, dataset: PairDataset, splits: tuple[str, ...]) -> None:
        self.dataset, self.splits = dataset, splits
        self.name, self.classes = dataset.name, dataset.classes
        self.labels, self.groups, self.covers = dataset.labels, dataset.groups, dataset.covers
        self.optical_channels, self.sar_channels = dataset.optical_channels, dataset.sar_channels
        if isinstance(dataset, HasClearImages):
            self.clear = dataset.clear
        if hasattr(dataset, "pair_name"):
            self.pair_name = dataset.pair_name

    def __len__(self) -> int:
        return len(self.dataset)

    def pair(self, index: int) -> RawPair:
        """Return (optical, SAR), raw; see `PairDataset`."""
        return self.dataset.pair(index)
