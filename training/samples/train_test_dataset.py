"""Training pairs from one data set, judged pairs from another, as one `PairDataset`."""

from __future__ import annotations

import numpy as np

from esccs_edge.errors import InputError

from ..datasets import PairDataset, RawPair


class TrainTestDataset:
    """The ``train`` and ``val`` pairs of one data set and the judged pairs of another.

    Judged are the pairs of split ``test``, or all pairs where the data set has no such split.

    Raises:
        InputError: The two do not agree in classes or channels, or share a group.
    """

    def __init__(self, train: PairDataset, test: PairDataset) -> None:
        self._check(train, test)
        learned = np.flatnonzero(np.asarray(train.splits) != "test")
        judged = np.flatnonzero(np.asarray(test.splits) == "test")
        if not judged.size:
            judged = np.arange(len(test))
        self._pairs = [(train, int(i)) for i in learned] + [(test, int(i)) for i in judged]
        self.name = train.name if train.name == test.name else f"{train.name} -> {test.name}"
        self.classes = train.classes
        places = {name: i for i, name in enumerate(train.classes)}
        place = np.array([places[name] for name in test.classes] + [-1], np.int64)
        self.labels = np.concatenate(
            [np.asarray(train.labels)[learned], place[np.asarray(test.labels)[judged]]]
        )
        self.splits = (*(train.splits[int(i)] for i in learned), *("test" for _ in judged))
        self.groups = tuple(dataset.groups[i] for dataset, i in self._pairs)
        self.optical_channels, self.sar_channels = train.optical_channels, train.sar_channels
        self.covers = np.concatenate([train.covers[learned], test.covers[judged]])
        self._refuse_shared_groups(len(learned))

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, index: int) -> RawPair:
        """Return (optical, SAR), raw; see `PairDataset`."""
        dataset, place = self._pairs[index]
        return dataset.pair(place)

    @staticmethod
    def _check(train: PairDataset, test: PairDataset) -> None:
        if unknown := sorted(set(test.classes) - set(train.classes)):
            raise InputError(
                f"{test.name} has classes {unknown} that {train.name} does not teach, expected "
                f"among {list(train.classes)}"
            )
        for what in ("optical_channels", "sar_channels"):
            if getattr(train, what) != getattr(test, what):
                raise InputError(
                    f"{what} of {train.name} are {getattr(train, what)} and of {test.name} "
                    f"{getattr(test, what)}, expected the same"
                )

    def _refuse_shared_groups(self, learned: int) -> None:
        if shared := sorted(set(self.groups[:learned]) & set(self.groups[learned:])):
            raise InputError(
                f"group {shared[0]!r} is in the training and in the judged pairs",
                hint="Pairs of one place look alike: keep a group on one side",
            )
