"""What a compared method of semantic segmentation is, and what those of one seed share.

Every method learns on the same windows under the same clouds, with the same encoders, decoders and
schedule; a method file defines only its network and its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ...learning.cloudseg import CloudSegTeacher
from ...learning.map_losses import segmentation_loss
from ...stages.semantic_segmentation.map_stage import MapStage
from ...stages.semantic_segmentation.run import MapRun, cloudy
from ...stages.stage import Batch
from .told import PLAIN, MapGifts

#: Batch -> logits ``(N, K, H, W)``.
MapPredictor = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class MapShared:
    """What the methods of one seed share: options, data, folder and the teacher."""

    run: MapRun
    teacher: CloudSegTeacher

    @property
    def classes(self) -> int:
        """K."""
        return len(self.run.dataset.classes)

    def fit(self, stage: MapStage[nn.Module]) -> nn.Module:
        """Train a stage under clouds, or load it if it is finished."""
        self.run.let_validate(stage, cloudy(self.run.options, self.run.textures))
        return self.run.fit(stage, self.run.cloudy_samples())


@dataclass(frozen=True)
class MapMethod:
    """One row of the table.

    Attributes:
        predictor: Trains what is missing and returns how to ask it.
        adds: What it is, for the table.
        gifts: What it is given beside cloudy images, SAR and labels.
    """

    predictor: Callable[[MapShared], MapPredictor]
    adds: str
    gifts: MapGifts = PLAIN


class LabelStage(MapStage[nn.Module]):
    """A network ``batch -> logits`` that learns from labels alone.

    Args:
        name: Names checkpoints and random numbers.
        net: The network.
        shared: What the methods share.
    """

    def __init__(self, name: str, net: nn.Module, shared: MapShared) -> None:
        options = shared.run.options
        super().__init__(net, options.student.schedule, name, options.seed)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy."""
        return segmentation_loss(self.answers(self.net, batch), batch["target"]), {}

    def answers(self, net: nn.Module, batch: Batch) -> Tensor:
        """Logits of a batch."""
        logits: Tensor = net(batch)
        return logits
