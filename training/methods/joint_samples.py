"""Target pairs beside labeled clear images, unpaired, for methods that learn on both at once."""

from __future__ import annotations

from torch import Tensor

from ..samples.degraded import Degradation
from ..samples.samples import CloudySamples
from ..stages.scene_classification.run import SceneRun


class JointSamples(CloudySamples):
    """Target samples with ``labeled_clear`` and ``labeled_class`` of another sample beside them."""

    labeled: CloudySamples

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; it also changes which labeled sample stands beside a target one."""
        super().set_epoch(epoch)
        self.labeled.set_epoch(epoch)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        beside = (position + 1 + 7919 * int(self._epoch)) % len(self.labeled)
        other = self.labeled[beside]
        extra = {"labeled_clear": other["clear"], "labeled_class": other["label"]}
        return {**super().__getitem__(position), **extra}


def joint_samples(run: SceneRun) -> CloudySamples:
    """Return the target's training pairs with clear, labeled images beside them."""
    target = run.cloudy_samples()
    pairs = target.pairs
    joint = JointSamples(
        pairs.dataset, "train", target.optical_spec, target.sar_spec, pairs.degradation, pairs.seed,
        target.draws,
    )  # fmt: skip
    joint.labeled = run.labeled_samples(Degradation(cover=0.0, augment=True))
    return joint
