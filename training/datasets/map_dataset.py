"""What semantic segmentation asks of a data set: images with the class of every pixel.

Pixels are raw (digital numbers, dB); nothing is normalized here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.types import Array, Mask
from esccs_edge.errors import InputError

from .dataset import Dataset

#: Stands in a label map for a pixel that does not count: unknown, or of no class.
IGNORED = 255

LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MapSample:
    """One place, all images on one grid.

    Attributes:
        optical: ``(C, H, W)`` as it was taken, with the clouds it may show; None where absent.
        sar: ``(P, H, W)``, or None.
        target: ``(h, w)`` class numbers or `IGNORED`, on the same ground; it may be coarser than
            the images by a common ratio.
        clear: ``(C, H, W)`` of another day without clouds; None: ``optical`` is clear enough.
        cloud: ``(H, W)`` bool, True where ``optical`` shows cloud; None where not known.
    """

    optical: Array | None
    sar: Array | None
    target: LabelMap
    clear: Array | None = None
    cloud: Mask | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        shown = next((image for image in (self.optical, self.sar) if image is not None), None)
        if shown is None:
            raise InputError("a sample has neither optical nor SAR")
        return int(shown.shape[1]), int(shown.shape[2])


@runtime_checkable
class MapDataset(Dataset, Protocol):
    """A data set of optical + SAR images with label maps.

    Attributes:
        optical_channels: Channel names of the optical images; empty if there are none.
        sar_channels: Channel names of the SAR images; empty if there are none.
        has_cloud_masks: Whether every sample knows where its optical image shows cloud.
        contracts: Modality -> what its numbers are, where the channel names do not say it; the
            statistics in it are not used.
        simulated: What of the data is not real, such as ``"sar"``; see `StoredSample.simulated`.
    """

    @property
    def optical_channels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def sar_channels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def has_cloud_masks(self) -> bool: ...  # noqa: D102
    @property
    def contracts(self) -> Mapping[str, ModalitySpec]: ...  # noqa: D102
    @property
    def simulated(self) -> tuple[str, ...]: ...  # noqa: D102

    def sample(self, index: int) -> MapSample:
        """Return a sample, raw."""
        ...


@dataclass(frozen=True)
class MemoryMaps:
    """A `MapDataset` whose pixels fit in memory."""

    name: str
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    optical_channels: tuple[str, ...]
    sar_channels: tuple[str, ...]
    samples: tuple[MapSample, ...]
    has_cloud_masks: bool = False
    contracts: Mapping[str, ModalitySpec] = field(default_factory=dict)
    simulated: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> MapSample:
        """Return a stored sample; do not write to it."""
        return self.samples[index]


def repeated(image: Array, size: tuple[int, int]) -> Array:
    """Return ``(..., h, w)`` on a finer or coarser grid by nearest neighbors."""
    rows, columns = (
        np.minimum((np.arange(wanted) + 0.5) * found / wanted, found - 1).astype(np.int64)
        for wanted, found in zip(size, image.shape[-2:], strict=True)
    )
    taken: Array = image[..., rows[:, None], columns]
    return taken


def class_numbers(codes: Array, table: Mapping[int, int]) -> LabelMap:
    """Return the class number of each code; codes that the table does not name are `IGNORED`."""
    lookup = np.full(256, IGNORED, np.uint8)
    for code, number in table.items():
        lookup[code] = number
    found: LabelMap = lookup[np.where((codes >= 0) & (codes < 256), codes, 0).astype(np.uint8)]
    found[(codes < 0) | (codes > 255)] = IGNORED
    return found
