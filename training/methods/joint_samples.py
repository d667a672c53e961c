"""Target pairs beside labeled source images, unpaired, for methods that learn on both at once."""

from __future__ import annotations

from torch import Tensor

from ..samples.samples import CloudySamples, Degradation
from ..stages.chain import Chain


class JointSamples(CloudySamples):
    """Target samples with ``source_clear`` and ``source_label`` of a source sample beside them."""

    labeled: CloudySamples

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; it also changes which source sample stands beside a target one."""
        super().set_epoch(epoch)
        self.labeled.set_epoch(epoch)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        beside = (position + 1 + 7919 * int(self._epoch)) % len(self.labeled)
        source = self.labeled[beside]
        extra = {"source_clear": source["clear"], "source_label": source["label"]}
        return {**super().__getitem__(position), **extra}


def joint_samples(chain: Chain) -> CloudySamples:
    """Return the target's training pairs with clear, labeled source images beside them."""
    target = chain.cloudy_samples()
    pairs = target.pairs
    joint = JointSamples(
        pairs.source, "train", target.optical_spec, target.sar_spec, pairs.degradation, pairs.seed,
        target.draws,
    )  # fmt: skip
    joint.labeled = chain.source_samples(Degradation(cover=0.0, augment=True))
    return joint
