"""Two parts of the training pairs: a labeled cloud-free one and an unlabeled cloudy target.

The method's setting has no labels and no cloud-free images where it must work. A data set that
has both is divided by place, so that no place of the target was ever seen clear or with a label.
"""

from __future__ import annotations

import numpy as np

from esccs_edge.contracts.types import Mask
from esccs_edge.errors import InputError

from ..datasets import PairDataset
from ..datasets.splits import split_by_group
from .with_splits import WithSplits


class TrainingPart(WithSplits):
    """A data set whose training split is cut down to some of its pairs; the rest is as it was.

    Args:
        dataset: The whole data set.
        kept: ``(N,)`` bool; which pairs may stay in the training split.
    """

    def __init__(self, dataset: PairDataset, kept: Mask) -> None:
        splits = tuple(
            "" if split == "train" and not keep else split
            for split, keep in zip(dataset.splits, kept, strict=True)
        )
        super().__init__(dataset, splits)


def labeled_and_unlabeled(dataset: PairDataset) -> tuple[TrainingPart, TrainingPart]:
    """Divide the training split into the pairs with a label and the target, those without.

    Raises:
        InputError: Every training pair has a label.
    """
    labels = np.asarray(dataset.labels)
    if not ((labels < 0) & (np.asarray(dataset.splits) == "train")).any():
        raise InputError(
            f"every training pair of {dataset.name} has a label, expected some without",
            hint="Set target_share to hide the labels of some places instead",
        )
    return TrainingPart(dataset, labels >= 0), TrainingPart(dataset, labels < 0)


def labeled_and_target(
    dataset: PairDataset, target_share: float, seed: int
) -> tuple[TrainingPart, TrainingPart]:
    """Divide the training split by group, with like shares of each class.

    The labeled part is what domain adaptation calls the source.

    Args:
        dataset: The data set; its training pairs need labels.
        target_share: Wanted share of the training pairs in the target part, in (0, 1).
        seed: Same seed, same parts.
    """
    trained = np.flatnonzero(np.asarray(dataset.splits) == "train")
    parts = split_by_group(
        np.asarray(dataset.labels)[trained], [dataset.groups[int(i)] for i in trained], seed,
        (1 - target_share, 0.0, target_share), every_class=False,
    )  # fmt: skip
    is_labeled = np.zeros(len(dataset), bool)
    is_labeled[trained] = np.asarray(parts) == "train"
    return TrainingPart(dataset, is_labeled), TrainingPart(dataset, ~is_labeled)
