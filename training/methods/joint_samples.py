"""Target pairs beside labeled clear images, unpaired, for methods that learn on both at once."""

from __future__ import annotations

from ..samples.degraded import Degradation
from ..samples.epoch_samples import EpochSamples, Sample
from ..stages.scene_classification.run import SceneRun


class JointSamples(EpochSamples):
    """Target samples with ``labeled_clear`` and ``labeled_class`` of another sample beside them.

    Args:
        target: The cloudy pairs.
        labeled: The labeled clear images.
    """

    def __init__(self, target: EpochSamples, labeled: EpochSamples) -> None:
        super().__init__()
        self.target, self.labeled = target, labeled

    def __len__(self) -> int:
        return len(self.target)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; it also changes which labeled sample stands beside a target one."""
        super().set_epoch(epoch)
        self.target.set_epoch(epoch)
        self.labeled.set_epoch(epoch)

    def __getitem__(self, position: int) -> Sample:
        beside = (position + 1 + 7919 * int(self._epoch)) % len(self.labeled)
        other = self.labeled[beside]
        extra = {"labeled_clear": other["clear"], "labeled_class": other["label"]}
        return {**self.target[position], **extra}


def joint_samples(run: SceneRun) -> JointSamples:
    """Return the target's training pairs with clear, labeled images beside them."""
    return JointSamples(
        run.cloudy_samples(), run.labeled_samples(Degradation(cover=0.0, augment=True))
    )
