"""What the tasks on time series ask of a data set: images of a season in the slots of a calendar.

Pixels are raw (digital numbers, dB); a date without an image is nodata in every channel. Classes
are those of the whole series (`SeriesDataset.target` is a number) or of its pixels (a map).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.calendar import Calendar
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError

from .dataset import Dataset

#: Class number of what is not known.
UNKNOWN = -1


@runtime_checkable
class SeriesDataset(Dataset, Protocol):
    """A data set of time series.

    Attributes:
        calendar: What the T dates stand for; None: not known.
        channels: Sensor -> channel names, ``"optical"`` before ``"sar"``.
        size: T, height and width.
        contracts: Sensor -> what its numbers are, where the channel names do not say it; the
            statistics in it are not used.
        simulated: What of the data is not real; see `StoredSample.simulated`.
    """

    @property
    def contracts(self) -> Mapping[str, ModalitySpec]: ...  # noqa: D102
    @property
    def calendar(self) -> Calendar | None: ...  # noqa: D102
    @property
    def channels(self) -> Mapping[str, tuple[str, ...]]: ...  # noqa: D102
    @property
    def size(self) -> tuple[int, int, int]: ...  # noqa: D102
    @property
    def simulated(self) -> tuple[str, ...]: ...  # noqa: D102

    def series(self, index: int) -> Mapping[str, Array]:
        """Return sensor -> ``(C, T, H, W)``, raw."""
        ...

    def target(self, index: int) -> npt.NDArray[np.int64]:
        """Return the class number ``()``, or ``(H, W)`` of them; `UNKNOWN` where not known."""
        ...


@dataclass(frozen=True)
class MemorySeries:
    """A `SeriesDataset` whose pixels fit in memory.

    Attributes:
        pixels: Sensor -> ``(N, C, T, H, W)``.
        targets: ``(N,)`` or ``(N, H, W)``.
    """

    name: str
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    channels: Mapping[str, tuple[str, ...]]
    pixels: Mapping[str, Array]
    targets: npt.NDArray[np.int64]
    calendar: Calendar | None = None
    contracts: Mapping[str, ModalitySpec] = field(default_factory=dict)
    simulated: tuple[str, ...] = field(default_factory=tuple)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def size(self) -> tuple[int, int, int]:
        """T, height and width."""
        dates, height, width = next(iter(self.pixels.values())).shape[2:]
        return dates, height, width

    def series(self, index: int) -> Mapping[str, Array]:
        """Return views of the stored series; do not write to them."""
        return {name: array[index] for name, array in self.pixels.items()}

    def target(self, index: int) -> npt.NDArray[np.int64]:
        """Return the stored target."""
        return np.asarray(self.targets[index])


def absent_value(dtype: np.dtype[Any]) -> float:
    """Return what marks a date without an image: 0 in digital numbers, else NaN."""
    return 0.0 if np.issubdtype(dtype, np.integer) else float("nan")


def require_split(dataset: Dataset, *splits: str) -> None:
    """Refuse data sets that lack a split.

    Raises:
        InputError: A split holds no sample.
    """
    for split in splits:
        if split not in dataset.splits:
            raise InputError(
                f"{dataset.name} has no series in split {split!r}",
                hint="Give it more places, or its own split column",
            )
