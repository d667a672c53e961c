"""What training asks of a data set: samples by index, grouped by place and split.

`Dataset` is what every task needs; `PairDataset` adds the labeled optical + SAR pairs of scene
classification. Pixels are raw (digital numbers, dB); nothing is normalized here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError

RawPair = tuple[Array | None, Array | None]

SPLITS = ("train", "val", "test")


class Dataset(Protocol):
    """A data set of N samples, seen by index.

    Attributes:
        name: Short name for reports, such as ``"EuroSAT-MS"``.
        classes: Class names in label order.
        groups: Place, scene or event of each sample, which a split should not divide.
        splits: ``"train"``, ``"val"`` or ``"test"`` for each sample.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def groups(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def splits(self) -> Sequence[str]: ...  # noqa: D102

    def __len__(self) -> int: ...


@runtime_checkable
class PairDataset(Dataset, Protocol):
    """A data set of optical + SAR pairs, one class each.

    Attributes:
        labels: ``(N,)`` int64; -1 where a pair has no label.
        covers: ``(N,)`` share of the optical image under cloud, in [0, 1]; NaN where not known.
        optical_channels: Channel names of the optical arrays; empty if there are none.
        sar_channels: Channel names of the SAR arrays; empty if the set has no SAR.
    """

    @property
    def labels(self) -> npt.NDArray[np.int64]: ...  # noqa: D102
    @property
    def covers(self) -> npt.NDArray[np.float64]: ...  # noqa: D102
    @property
    def optical_channels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def sar_channels(self) -> tuple[str, ...]: ...  # noqa: D102

    def pair(self, index: int) -> RawPair:
        """Return (optical ``(C, H, W)`` or None, SAR ``(P, H, W)`` or None), both raw."""
        ...


@runtime_checkable
class HasClearImages(Protocol):
    """A data set of truly cloudy pairs that also has a clear image of each place."""

    def clear(self, index: int) -> Array:
        """Return the clear image ``(C, H, W)`` of a pair, raw."""
        ...


@dataclass(frozen=True)
class MemoryDataset:
    """A `PairDataset` whose pixels fit in memory; either array may be None."""

    name: str
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    optical_channels: tuple[str, ...]
    sar_channels: tuple[str, ...]
    opticals: Array | None
    sars: Array | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def covers(self) -> npt.NDArray[np.float64]:
        """Not known."""
        return np.full(len(self), np.nan)

    def pair(self, index: int) -> RawPair:
        """Return views of the stored arrays; do not write to them."""
        optical = None if self.opticals is None else self.opticals[index]
        return optical, None if self.sars is None else self.sars[index]


def indices_of(dataset: Dataset, split: str) -> npt.NDArray[np.int64]:
    """Return the positions of one split's samples.

    Raises:
        InputError: The split is not one of `SPLITS`, or holds no sample.
    """
    if split not in SPLITS:
        raise InputError(f"split is {split!r}, expected one of {SPLITS}")
    found = np.flatnonzero(np.asarray(dataset.splits) == split)
    if not found.size:
        raise InputError(
            f"{dataset.name} has no pair in split {split!r}",
            hint="Add rows of that split, or choose one of "
            + ", ".join(sorted(set(dataset.splits))),
        )
    return found
