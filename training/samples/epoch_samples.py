"""Training samples whose random changes depend on the epoch: what a stage iterates over."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

Sample = dict[str, Tensor]


class EpochSamples(Dataset[Sample]):
    """Samples drawn anew in every epoch, or kept in memory and seen in turn.

    Args:
        draws: Epochs after which the draws repeat and are kept in memory; 0: never.
    """

    def __init__(self, draws: int = 0) -> None:
        # Shared memory, so that loader workers that stay alive see a new epoch.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self.draws = draws
        self._drawn: dict[tuple[int, int], Sample] = {}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose draws the items show."""
        self._epoch.fill_(epoch)

    def draw(self, position: int, epoch: int) -> Sample:
        """Return the tensors at a position as drawn for an epoch; equal arguments, equal values."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, position: int) -> Sample:
        epoch = int(self._epoch)
        if not self.draws:
            return self.draw(position, epoch)
        key = position, epoch % self.draws
        if key not in self._drawn:
            self._drawn[key] = self.draw(*key)
        return self._drawn[key]


class JoinedSamples(EpochSamples):
    """The samples of several sources, one after the other.

    ``index`` counts on from source to source, so that it stays unique.

    Args:
        parts: The sources and the length of the data set behind each.
    """

    def __init__(self, parts: Sequence[tuple[EpochSamples, int]]) -> None:
        super().__init__()
        self.parts = parts

    def __len__(self) -> int:
        return sum(len(samples) for samples, _ in self.parts)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of all sources."""
        super().set_epoch(epoch)
        for samples, _ in self.parts:
            samples.set_epoch(epoch)

    def __getitem__(self, position: int) -> Sample:
        start = 0
        for samples, size in self.parts:
            if position < len(samples):
                sample = samples[position]
                return {**sample, "index": sample["index"] + start} if start else sample
            position -= len(samples)
            start += size
        raise IndexError(position)
