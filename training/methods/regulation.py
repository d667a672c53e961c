"""Information regulation where it can reach an encoder; all our choice, none from the paper.

Weights on two losses of the *joint* logits only mix their two soft labels. Here each auxiliary
teaches the logits of its own branch, ``W_m h_m + b`` with the student's head split by modality, so
that a weight speeds or slows one encoder; the source model teaches the joint logits as before. The
student starts at random weights, since encoders that are taught already have nothing to balance;
contributions are scored crosswise (`crosswise`); and SGD stands beside AdamW, which cancels a
steady factor on a gradient. Each row has a twin with all weights 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..learning.losses import distillation_loss, soften
from ..learning.networks import StudentNet
from ..stages.stage import Batch
from .method import Method, gated
from .shared import Shared
from .skill import MeasuredApartStage
from .told import EQUIPPED

#: Two auxiliaries, two more pairs on half of the places each, and the student.
GIFTS = replace(EQUIPPED, stages=5)


class BranchStage(MeasuredApartStage):
    """The weights act on the branches' own logits."""

    def auxiliary_loss(
        self,
        batch: Batch,
        weights: Tensor,
        taught: tuple[Tensor, Tensor],
        features: tuple[Tensor, Tensor],
        logits: Tensor,
    ) -> Tensor:
        """``w_o KD(q_o, z_o) + w_a KD(q_a, z_a)``."""
        temperature = self.options.distillation.temperature
        losses = [
            weight * distillation_loss(soften(known, temperature), own, temperature)
            for weight, known, own in zip(
                weights.unbind(dim=1), taught, branch_logits(self.net, features), strict=True
            )
        ]
        return torch.stack(losses).sum(dim=0).mean()


def branch_logits(net: StudentNet, features: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits ``(N, K)`` that each branch gives alone through its part of the student's head."""
    optical, sar = features
    size = optical.shape[1]
    weight, bias = net.head.weight, net.head.bias
    return (
        functional.linear(optical, weight[:, :size], bias),
        functional.linear(sar, weight[:, size:], bias),
    )


def branches(
    name: str, adds: str, beta: float, optimizer: Literal["adamw", "sgd"] = "adamw"
) -> Method:
    """Return the row of one strength and optimizer."""

    def net(shared: Shared) -> nn.Module:
        assert shared.crosswise is not None
        options = shared.run.options
        part = options.student
        part = replace(
            part, teacher_weight=1.0,  # it alone teaches the joint logits here
            irm=replace(part.irm, beta=beta),
            schedule=replace(part.schedule, optimizer=optimizer),
        )  # fmt: skip
        options = options.evolve(student=part, warm_start=False)
        return shared.train_student(options, name, BranchStage, crosswise=shared.crosswise)

    return gated(net, adds, "auxiliaries", "crosswise", gifts=GIFTS)


_WHAT = "ESCCS from scratch, each auxiliary teaches its branch"
BALANCED = branches("esccs-branches", f"{_WHAT}; the weaker boosted", 0.5)
TRUSTING = branches("esccs-branches-trusting", f"{_WHAT}; the stronger boosted", -0.5)
EQUAL = branches("esccs-branches-no-irm", f"{_WHAT}; all weights 1", 0.0)
BALANCED_SGD = branches("esccs-branches-sgd", f"{_WHAT}; the weaker boosted; on SGD", 0.5, "sgd")
TRUSTING_SGD = branches(
    "esccs-branches-trusting-sgd", f"{_WHAT}; the stronger boosted; on SGD", -0.5, "sgd"
)
EQUAL_SGD = branches("esccs-branches-no-irm-sgd", f"{_WHAT}; all weights 1; on SGD", 0.0, "sgd")
