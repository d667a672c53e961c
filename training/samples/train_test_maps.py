"""Training images from one data set, judged ones from another, as one `MapDataset`."""

from __future__ import annotations

import numpy as np

from esccs_edge.errors import InputError

from ..datasets.map_dataset import MapDataset, MapSample


class TrainTestMaps:
    """The ``train`` and ``val`` samples of one data set and the judged samples of another.

    Judged are the samples of split ``test``, or all where the data set has no such split.

    Raises:
        InputError: The two do not agree in classes, channels or kind of pixels, or share a group.
    """

    def __init__(self, train: MapDataset, test: MapDataset) -> None:
        for what in ("classes", "optical_channels", "sar_channels", "contracts"):
            if getattr(train, what) != getattr(test, what):
                raise InputError(
                    f"{what} of {train.name} are {getattr(train, what)} and of {test.name} "
                    f"{getattr(test, what)}, expected the same"
                )
        learned = np.flatnonzero(np.isin(np.asarray(train.splits), ("train", "val")))
        judged = np.flatnonzero(np.asarray(test.splits) == "test")
        if not judged.size:
            judged = np.arange(len(test))
        self._places = [(train, int(i)) for i in learned] + [(test, int(i)) for i in judged]
        self.name = train.name if train.name == test.name else f"{train.name} -> {test.name}"
        self.classes, self.contracts = train.classes, train.contracts
        self.optical_channels, self.sar_channels = train.optical_channels, train.sar_channels
        self.has_cloud_masks = train.has_cloud_masks and test.has_cloud_masks
        self.simulated = tuple(sorted({*train.simulated, *test.simulated}))
        self.groups = tuple(data.groups[i] for data, i in self._places)
        self.splits = (*(train.splits[int(i)] for i in learned), *("test" for _ in judged))
        if shared := set(self.groups[: len(learned)]) & set(self.groups[len(learned) :]):
            raise InputError(
                f"group {min(shared)!r} is in the training and in the judged samples",
                hint="Images of one place look alike: keep a group on one side",
            )

    def __len__(self) -> int:
        return len(self._places)

    def sample(self, index: int) -> MapSample:
        """Return a sample, raw; see `MapDataset`."""
        data, place = self._places[index]
        return data.sample(place)
