"""What the source model says about a batch, and how far it can be believed there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..options import DistillationOptions
from ..reliability import source_reliability
from .step import Batch


@dataclass(frozen=True)
class SourceAnswer:
    """Answers of the frozen source model.

    Attributes:
        logits: ``(N, K)``.
        reliability: ``(N,)`` belief in them, in [0, 1].
    """

    logits: Tensor
    reliability: Tensor


@torch.no_grad()
def ask_source(teacher: nn.Module, batch: Batch, options: DistillationOptions) -> SourceAnswer:
    """Ask the source model, on the view that the protocol allows.

    On the clear view it is fully believed. On the cloudy view the belief follows the clear share
    estimated from the image; where there is no image it is 0.
    """
    if options.teacher_view == "clear":
        seen = batch["clear"].flatten(1).any(dim=1)
        return SourceAnswer(teacher(batch["clear"]), seen.float())
    reliability = source_reliability(batch["reliability"], *options.reliable_clear_share)
    seen = batch["availability"][:, 0] > 0
    return SourceAnswer(teacher(batch["optical"]), reliability * seen)
