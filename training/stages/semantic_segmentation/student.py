"""The last stage: the student learns under clouds from labels, the clear sky and the teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from esccs_edge.contracts.modality import ModalitySpec

from ...learning.cloudseg import CloudSegNet, Seen, presence
from ...learning.map_losses import (
    answer_loss,
    feature_loss,
    pixel_gate_loss,
    removal_loss,
    segmentation_loss,
)
from ...segmentation_options import SegmentationOptions
from ..stage import Batch
from .map_stage import MapStage
from .teacher import shown_clear


class MapStudentStage(MapStage[CloudSegNet]):
    """The losses of CloudSeg and ours, each with its weight.

    Args:
        optical: Contract of the optical modality.
        sar: Contract of the SAR modality.
        classes: K.
        options: The run.
        teacher: What teaches; only asked where a weight asks for it.
        name: Names the stage's files and its draws.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        optical: ModalitySpec,
        sar: ModalitySpec,
        classes: int,
        options: SegmentationOptions,
        teacher: torch.nn.Module,
        name: str = "student",
    ) -> None:
        part = options.student
        net = CloudSegNet(
            len(optical.channels), len(sar.channels), classes, options.network, part.gate,
            removes_clouds=part.removal_weight > 0,
        )  # fmt: skip
        super().__init__(net, part.schedule, name, options.seed)
        self.part = part
        self.keep_frozen(teacher=teacher)
        levels = {
            "low": [optical.clip[0]], "high": [optical.clip[1]], "mean": optical.mean,
            "std": optical.std,
        }  # fmt: skip
        for key, values in levels.items():
            self.register_buffer(key, torch.tensor(values)[None, :, None, None], persistent=False)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """``labels + removal + features + answers + gate``."""
        part = self.part
        shown = batch["shown"]
        images = batch["optical"] * shown[:, :1], batch["sar"] * shown[:, 1:]
        seen = self.net.seen(*images, batch["availability"])
        there = presence(*images, batch["availability"])
        losses = {"label_loss": segmentation_loss(seen.logits, batch["target"])}
        assert seen.gate is not None
        losses["gate_loss"] = part.gate_weight * pixel_gate_loss(seen.gate, batch["cloud"], there)
        if seen.clear is not None:
            clear = self._in_unit_range(batch["clear"])
            losses["removal_loss"] = part.removal_weight * removal_loss(
                seen.clear, clear, batch["cloud"]
            )
        if part.feature_weight or part.answer_weight:
            losses |= self._taught(seen, there, batch)
        logged = {**losses, "optical_gate": seen.gate[:, 0].mean()}
        return torch.stack(list(losses.values())).sum(), logged

    def answers(self, net: CloudSegNet, batch: Batch) -> Tensor:
        """Logits for the cloudy images of a batch."""
        logits: Tensor = net(batch["optical"], batch["sar"], batch["availability"])[0]
        return logits

    def _taught(self, seen: Seen, there: Tensor, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            taught: Seen = self.frozen("teacher")(batch["clear"], batch["sar"], shown_clear(batch))
        losses = {}
        if self.part.feature_weight:
            hidden = torch.maximum(batch["cloud"], 1 - there[:, 0])
            imitated = feature_loss(seen.features, taught.features, hidden)
            losses["feature_loss"] = self.part.feature_weight * imitated
        if self.part.answer_weight:
            answers = answer_loss(
                seen.logits, taught.logits, there.amax(dim=1), self.part.answer_temperature
            )
            losses["answer_loss"] = self.part.answer_weight * answers
        return losses

    def _in_unit_range(self, normalized: Tensor) -> Tensor:
        """The clear image as a share of its clip range, as it was before normalization."""
        return (normalized * self.std + self.mean - self.low) / (self.high - self.low)
