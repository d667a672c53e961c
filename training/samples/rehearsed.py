"""Target samples with clear pairs of the source among them, so that what it taught is not lost.

A network that starts at the source model and sees a few places of the target alone forgets the
classes that these do not show.
"""

from __future__ import annotations

import torch

from .epoch_samples import EpochSamples, Sample


class RehearsedSamples(EpochSamples):
    """All target samples, then as many of the source as its share asks for, without SAR.

    Each epoch takes the next ones of the source, in an order that mixes its classes, so that all
    are seen in turn.

    Args:
        target: The target's samples; every epoch has all of them.
        source: Labeled clear samples.
        share: Share of an epoch that comes from the source, in [0, 1).
        seed: Of the order.
    """

    def __init__(self, target: EpochSamples, source: EpochSamples, share: float, seed: int) -> None:
        super().__init__()
        self.target, self.source = target, source
        self.count = round(len(target) * share / (1 - share))
        generator = torch.Generator().manual_seed(seed)
        self._order = torch.randperm(len(source), generator=generator).tolist()

    def __len__(self) -> int:
        return len(self.target) + self.count

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; it also changes which samples of the source are among it."""
        super().set_epoch(epoch)
        self.target.set_epoch(epoch)
        self.source.set_epoch(epoch)

    def __getitem__(self, position: int) -> Sample:
        if position < len(self.target):
            return self.target[position]
        number = position - len(self.target) + self.count * int(self._epoch)
        return without_sar(self.source[self._order[number % len(self._order)]])


def without_sar(sample: Sample) -> Sample:
    """Return the sample as one whose SAR image is absent: zeros, availability 0."""
    availability = sample["availability"] * torch.tensor([1.0, 0.0])
    return {**sample, "sar": torch.zeros_like(sample["sar"]), "availability": availability}
