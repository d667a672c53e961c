"""Degraded pairs as normalized tensors: what the stages of training iterate over.

Normalization is `esccs_edge.pixels.preprocess`, the same function that runs on the device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError
from esccs_edge.pixels.preprocess import preprocess

from ..datasets.dataset import PairDataset
from .degraded import Degradation, DegradedPair, DegradedPairs
from .epoch_samples import EpochSamples, Sample


class CloudySamples(EpochSamples):
    """One split of a data set as tensors, deterministic per (seed, epoch, index).

    An item holds ``clear`` and ``optical`` ``(C, H, W)``, ``sar`` ``(P, H, W)`` and
    ``availability`` ``(2,)`` as float32, ``cover`` (simulated) and ``reliability`` (1 - cover
    estimated from the pixels) as float32 scalars, ``label`` and ``index`` (position in the
    data set) as int64. An absent modality is all zeros with availability 0.

    Args:
        dataset: Data set; where it has no SAR channels, the degradation says what stands in.
        split: ``"train"``, ``"val"`` or ``"test"``.
        optical: Contract of the optical modality.
        sar: Contract of the SAR modality.
        degradation: Clouds, augmentation and dropped modalities.
        seed: Seed of everything drawn.
        draws: Epochs after which the draws repeat and are kept in memory; 0: never.
    """

    def __init__(
        self,
        dataset: PairDataset,
        split: str,
        optical: ModalitySpec,
        sar: ModalitySpec,
        degradation: Degradation | None = None,
        seed: int = 0,
        draws: int = 0,
    ) -> None:
        super().__init__(draws)
        self.pairs = DegradedPairs(dataset, split, degradation or Degradation(), seed)
        self.optical_spec = optical
        self.sar_spec = sar
        self._size = patch_size(dataset)

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, position: int, epoch: int) -> Sample:
        """Return the normalized pair at a position as drawn for an epoch."""
        return self.tensors(self.pairs.get(position, epoch))

    def tensors(self, pair: DegradedPair) -> Sample:
        """Normalize one raw pair."""
        clear, optical_share = self._normalized(pair.clear, self.optical_spec)
        optical = clear
        if pair.optical is not pair.clear:
            optical, optical_share = self._normalized(pair.optical, self.optical_spec)
        sar, sar_share = self._normalized(pair.sar, self.sar_spec)
        return {
            "clear": clear,
            "optical": optical,
            "sar": sar,
            "availability": torch.tensor([optical_share, sar_share], dtype=torch.float32),
            "label": torch.tensor(pair.label),
            "cover": torch.tensor(pair.cover, dtype=torch.float32),
            "reliability": torch.tensor(1.0 - pair.estimated_cover, dtype=torch.float32),
            "index": torch.tensor(pair.index),
        }

    def _normalized(self, pixels: Array | None, spec: ModalitySpec) -> tuple[Tensor, float]:
        out = np.empty((1, len(spec.channels), *self._size), np.float32)
        image = None if pixels is None else np.ascontiguousarray(pixels)
        stats = preprocess([image], spec, out, threads=1)[0]
        return torch.from_numpy(out[0]), float(stats.availability)


def patch_size(dataset: PairDataset) -> tuple[int, int]:
    """Return height and width of the patches in pixels.

    Raises:
        InputError: No pair has pixels.
    """
    for index in range(len(dataset)):
        for pixels in dataset.pair(index):
            if pixels is not None:
                return pixels.shape[1], pixels.shape[2]
    raise InputError(f"{dataset.name} has no pixels, expected some in each split")
