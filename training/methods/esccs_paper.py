"""ESCCS exactly as Figures 3 and 4 of its repository draw it (arXiv 2501.04283), nothing of ours.

First sub-task: the source model teaches an optical and a SAR network, each on its own, with
cross-entropy and distillation of the answers that pass the filter of KDHN. Second: joined features
without a gate learn from the source model and from both auxiliaries, unfiltered. One ratio per
sample, ``rho = p_O[y_S] / p_A[y_S]`` with y_S the source model's answer, makes the two weights.
What the figures leave open is as in the other rows: temperature, schedule, backbone, and the form
of the weights (`irm.modality_weights`, which boosts the weaker one). ``esccs-paper`` weighs the
losses; ``esccs-paper-outputs`` reads the product of Figure 4 to the letter, on the outputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ..judging.judge import Predictor
from ..learning.irm import contributions, log_ratio, modality_weights, present_weights
from ..learning.losses import distillation_loss, soften
from ..learning.networks import UnimodalNet
from ..stages.stage import Batch, masked_mean
from .fusion import FusionNet, FusionStage, fusion_net, fusion_predictor
from .method import Method, MethodStage, both_see, trained, unimodal_net
from .shared import Auxiliaries, Shared

Modality = Literal["optical", "sar"]


class PaperAuxiliaryStage(MethodStage[UnimodalNet]):
    """First sub-task: one modality learns from the source model alone."""

    modality: Modality = "optical"

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation of the confident answers."""
        taught = self.taught(batch).where(both_see(batch, self.modality))
        return self.imitation(self.net(batch[self.modality]), taught)


def with_paper_auxiliaries(shared: Shared) -> Shared:
    """Train or load the auxiliaries as the paper draws them."""

    def auxiliary(modality: Modality) -> UnimodalNet:
        name = f"paper-{modality}-auxiliary"
        net = unimodal_net(shared, name, modality)
        schedule = shared.run.options.auxiliary.schedule
        stage = PaperAuxiliaryStage(name, net, shared, schedule=schedule, filtered=shared.confident)
        stage.modality = modality
        return trained(stage, shared)

    return replace(shared, paper_auxiliaries=Auxiliaries(auxiliary("optical"), auxiliary("sar")))


class PaperStudentStage(FusionStage[FusionNet]):
    """Second sub-task: three teachers, all weights 1 but for the ratio."""

    on_outputs = False

    def method_loss(self, batch: Batch) -> Tensor:
        """``KD_S + rho^O KD_O + rho^A KD_A``; without SAR, its weight goes to optical."""
        temperature = self.options.distillation.temperature
        taught = self.taught(batch)
        with torch.no_grad():
            optical, sar = (self.frozen(name)(batch[name]) for name in ("optical", "sar"))
        answer = torch.nn.functional.one_hot(taught.answer, taught.logits.shape[1]).float()
        rho = log_ratio(contributions(answer, optical, sar))
        weights = modality_weights(rho, self.options.student.irm)
        weights = present_weights(weights, batch["availability"])
        logits = self.net(batch).logits
        total = distillation_loss(soften(taught.logits, temperature), logits, temperature)
        for weight, own in zip(weights.unbind(dim=1), (optical, sar), strict=True):
            if self.on_outputs:
                target = soften(weight[:, None] * own, temperature)
                total = total + distillation_loss(target, logits, temperature)
            else:
                target = soften(own, temperature)
                total = total + weight * distillation_loss(target, logits, temperature)
        return masked_mean(total, both_see(batch, "optical"))


def _student(shared: Shared, name: str, *, on_outputs: bool) -> Predictor:
    teachers = shared.trained_auxiliaries
    stage = PaperStudentStage(
        name, fusion_net(shared, name), shared,
        schedule=shared.run.options.student.schedule,  # the auxiliaries had the other two
        optical=teachers.optical, sar=teachers.sar,
    )  # fmt: skip
    stage.on_outputs = on_outputs
    return fusion_predictor(stage, shared)


METHOD = Method(
    lambda shared: _student(shared, "esccs-paper", on_outputs=False),
    "two sub-tasks and regulation as the figures draw them",
    needs=("paper auxiliaries",),
)
OUTPUTS = Method(
    lambda shared: _student(shared, "esccs-paper-outputs", on_outputs=True),
    "the same, the ratio on the auxiliaries' outputs",
    needs=("paper auxiliaries",),
)
