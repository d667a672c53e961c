"""What training asks of a data set: labelled optical + SAR pairs, grouped by place and split.

Every reader in this folder answers the same few questions, so the three training steps never
know which data set they read. Pairs are raw (digital numbers, dB); nothing is normalised here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from esccs_edge.errors import InputError

Array = npt.NDArray[Any]
RawPair = tuple[Array | None, Array | None]

SPLITS = ("train", "val", "test")


class PairSource(Protocol):
    """A data set of N pairs, seen by index.

    Attributes:
        name: Short name for reports, such as ``"EuroSAT-MS"``.
        classes: Class names in label order.
        labels: ``(N,)`` int64; -1 where a pair has no label.
        groups: Place, scene or event of each pair; no group is in two splits.
        splits: ``"train"``, ``"val"`` or ``"test"`` for each pair.
        optical_channels: Channel names of the optical arrays; empty if there are none.
        sar_channels: Channel names of the SAR arrays; empty if the set has no SAR.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def labels(self) -> npt.NDArray[np.int64]: ...  # noqa: D102
    @property
    def groups(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def splits(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def optical_channels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def sar_channels(self) -> tuple[str, ...]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def pair(self, index: int) -> RawPair:
        """Return (optical ``(C, H, W)`` or None, SAR ``(P, H, W)`` or None), both raw."""
        ...


@dataclass(frozen=True)
class MemorySource:
    """A `PairSource` whose pixels fit in memory; either array may be None."""

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

    def pair(self, index: int) -> RawPair:
        """Return views of the stored arrays; do not write to them."""
        optical = None if self.opticals is None else self.opticals[index]
        return optical, None if self.sars is None else self.sars[index]


def indices_of(source: PairSource, split: str) -> npt.NDArray[np.int64]:
    """Return the positions of one split's pairs.

    Raises:
        InputError: The split is not one of `SPLITS`, or holds no pair.
    """
    if split not in SPLITS:
        raise InputError(f"split is {split!r}, expected one of {SPLITS}")
    found = np.flatnonzero(np.asarray(source.splits) == split)
    if not found.size:
        raise InputError(
            f"{source.name} has no pair in split {split!r}",
            hint="Add rows of that split, or choose one of "
            + ", ".join(sorted(set(source.splits))),
        )
    return found
