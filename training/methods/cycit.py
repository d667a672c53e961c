"""CycIT: translate optical to SAR, then adapt to real SAR (LGRS 2022, doi 3162707).

First a cycle-consistent adversarial translation between the source's clear optical images and the
target's SAR, unpaired; then a SAR network on translated images with their labels, with an
adversarial and a metric loss towards real SAR. Our choice: small translators and critics, both
played by one optimizer through gradient reversal, loss weights 10 (cycle) and 0.1 (adaptation),
half of the epochs for each stage.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..judging.judge import Predictor, unimodal
from ..learning.losses import label_loss
from ..learning.networks import UnimodalNet
from ..stages.chain import Chain
from ..stages.stage import Batch, masked_mean
from .fusion import scaled_gradient
from .joint_samples import joint_samples
from .method import Method, MethodStep, confidence_filter, trained, unimodal_net

CYCLE_WEIGHT, ADAPTATION_WEIGHT, MARGIN = 10.0, 0.1, 1.0


class Translators(nn.Module):
    """Optical -> SAR and back, and a patch critic per domain."""

    def __init__(self, optical: int, sar: int, width: int) -> None:
        super().__init__()
        self.to_sar, self.to_optical = _stack(optical, sar, width), _stack(sar, optical, width)
        self.critic_sar, self.critic_optical = (
            _stack(sar, 1, width, 2),
            _stack(optical, 1, width, 2),
        )


class TranslationStep(MethodStep):
    """Least-squares adversarial losses and cycles, both ways."""

    net: Translators

    def method_loss(self, batch: Batch) -> Tensor:
        """Sum over both directions."""
        optical, sar = batch["source_clear"], batch["sar"]
        fake_sar, fake_optical = self.net.to_sar(optical), self.net.to_optical(sar)
        there = self.net.to_optical(fake_sar) - optical
        back = self.net.to_sar(fake_optical) - sar
        cycle = there.abs().mean() + back.abs().mean()
        total: Tensor = (
            critic_loss(self.net.critic_sar, sar, fake_sar)
            + critic_loss(self.net.critic_optical, optical, fake_optical)
            + CYCLE_WEIGHT * cycle
        )
        return total


class AdaptationStep(MethodStep):
    """A classifier of translated images whose features fit real SAR too."""

    net: nn.ModuleDict

    def method_loss(self, batch: Batch) -> Tensor:
        """Labels of translated images + domain critic + triplets."""
        with torch.no_grad():
            fake = self.frozen("to_sar")(batch["source_clear"])
        taught = self.taught(batch)
        net, domain = self.net["classifier"], self.net["domain"]
        assert isinstance(net, UnimodalNet)
        own, real = net.encoder(fake), net.encoder(batch["sar"])
        labels = batch["source_label"]
        loss = masked_mean(label_loss(net.head(net.dropout(own)), labels), labels >= 0)
        adversarial = critic_loss(domain, scaled_gradient(real, -1.0), own)
        metric = triplet_loss(own, labels, real[taught.kept], taught.answer[taught.kept])
        return loss + ADAPTATION_WEIGHT * (adversarial + metric)


def critic_loss(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """``(D(real) - 1)^2 + D(fake)^2``; the gradient to the fake is reversed."""
    found = critic(scaled_gradient(fake, -1.0))
    loss: Tensor = ((critic(real) - 1) ** 2).mean() + (found**2).mean()
    return loss


def triplet_loss(anchors: Tensor, labels: Tensor, others: Tensor, answers: Tensor) -> Tensor:
    """Mean of ``relu(d+ - d- + 1)``, hardest of the batch, over anchors that have both sides."""
    if not len(others):
        return anchors.new_zeros(())
    distance = torch.cdist(functional.normalize(anchors), functional.normalize(others))
    same = labels[:, None] == answers[None]
    farthest = distance.masked_fill(~same, -1.0).amax(dim=1)
    nearest = distance.masked_fill(same, 9.0).amin(dim=1)
    usable = same.any(dim=1) & (~same).any(dim=1)
    return masked_mean(functional.relu(farthest - nearest + MARGIN), usable)


def _stack(inputs: int, outputs: int, width: int, stride: int = 1) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (inputs, width, width):
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
        stride = 1
    return nn.Sequential(*layers, nn.Conv2d(width, outputs, 3, 1, 1))


def _predictor(chain: Chain) -> Predictor:
    teacher, samples = chain.teacher, joint_samples(chain)
    schedule = chain.options.student.schedule
    half = replace(schedule, epochs=max(1, schedule.epochs // 2))
    channels = len(chain.optical_spec.channels), len(chain.sar_spec.channels)
    chain.seed_weights("cycit-1")
    width = max(4, chain.options.student.sar.width // 2)
    first = TranslationStep("cycit-1", Translators(*channels, width), chain, half)
    translators = trained(first, chain, samples)
    classifier = unimodal_net(chain, "cycit-2", "sar")
    assert isinstance(classifier, UnimodalNet)
    critic = nn.Linear(classifier.head.in_features, 1)
    net = nn.ModuleDict({"classifier": classifier, "domain": critic})
    to_sar = translators.get_submodule("to_sar")
    step = AdaptationStep("cycit-2", net, chain, half, teacher=teacher, to_sar=to_sar)
    step.filter = confidence_filter(chain)
    return unimodal(trained(step, chain, samples).get_submodule("classifier"), "sar")


METHOD = Method(_predictor, "two translators, two critics, a SAR network on translated images")
