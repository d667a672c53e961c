"""Two parts of the training pairs: a labeled cloud-free source and an unlabeled cloudy target.

The method's setting has no labels and no cloud-free images where it must work. A data set that
has both is divided by place, so that no place of the target was ever seen clear or with a label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..datasets import PairSource
from ..datasets.splits import split_by_group
from .recorded_covers import recorded_covers


class TrainingPart:
    """A source whose training split is cut down to some of its pairs; the rest is as it was.

    Args:
        source: The whole data set.
        kept: ``(N,)`` bool; which pairs may stay in the training split.
    """

    def __init__(self, source: PairSource, kept: npt.NDArray[np.bool_]) -> None:
        self.source = source
        self.name, self.classes = source.name, source.classes
        self.labels, self.groups = source.labels, source.groups
        self.optical_channels, self.sar_channels = source.optical_channels, source.sar_channels
        self.covers = recorded_covers(source)
        self.splits = tuple(
            "" if split == "train" and not keep else split
            for split, keep in zip(source.splits, kept, strict=True)
        )

    def __len__(self) -> int:
        return len(self.source)

    def pair(self, index: int) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
        """Return (optical, SAR), raw; see `PairSource`."""
        return self.source.pair(index)


def source_and_target(
    source: PairSource, target_share: float, seed: int
) -> tuple[TrainingPart, TrainingPart]:
    """Divide the training split by group, with like shares of each class.

    Args:
        source: The data set; its training pairs need labels.
        target_share: Wanted share of the training pairs in the target part, in (0, 1).
        seed: Same seed, same parts.
    """
    trained = np.flatnonzero(np.asarray(source.splits) == "train")
    parts = split_by_group(
        np.asarray(source.labels)[trained], [source.groups[int(i)] for i in trained], seed,
        (1 - target_share, 0.0, target_share), every_class=False,
    )  # fmt: skip
    is_source = np.zeros(len(source), bool)
    is_source[trained] = np.asarray(parts) == "train"
    return TrainingPart(source, is_source), TrainingPart(source, ~is_source)
