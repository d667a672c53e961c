"""CycIT: translate optical to SAR, then adapt to real SAR (LGRS 2022, doi 3162707).

First a cycle-consistent adversarial translation between the labeled clear optical images and the
target's SAR, unpaired; then a SAR network on translated images with their labels, with an
adversarial and a metric loss toward real SAR. Our choice: small translators and critics, both
played by one optimizer through gradient reversal, loss weights 10 (cycle) and 0.1 (adaptation),
half of the epochs for each stage.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..judging.judge import Predictor
from ..judging.predictors import unimodal
from ..learning.losses import label_loss
from ..learning.networks import UnimodalNet
from ..stages.stage import Batch, masked_mean
from .fusion import scaled_gradient
from .joint_samples import joint_samples
from .method import Method, MethodStage, trained, unimodal_net
from .shared import Shared

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


class TranslationStage(MethodStage[Translators]):
    """Least-squares adversarial losses and cycles, both ways."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Sum over both directions."""
        optical, sar = batch["labeled_clear"], batch["sar"]
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


class AdaptationStage(MethodStage[nn.ModuleDict]):
    """A classifier of translated images whose features fit real SAR too."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Labels of translated images + domain critic + triplets."""
        with torch.no_grad():
            fake = self.frozen("to_sar")(batch["labeled_clear"])
        taught = self.taught(batch)
        net, domain = self.net["classifier"], self.net["domain"]
        assert isinstance(net, UnimodalNet)
        own, real = net.encoder(fake), net.encoder(batch["sar"])
        labels = batch["labeled_class"]
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


def _predictor(shared: Shared) -> Predictor:
    run, samples = shared.run, joint_samples(shared.run)
    schedule = run.options.student.schedule
    half = replace(schedule, epochs=max(1, schedule.epochs // 2))
    width = max(4, run.options.student.sar.width // 2)
    run.seed_weights("cycit-1")
    first = TranslationStage("cycit-1", Translators(*run.channels, width), shared, schedule=half)
    translators = trained(first, shared, samples)
    classifier = unimodal_net(shared, "cycit-2", "sar")
    critic = nn.Linear(classifier.head.in_features, 1)
    net = nn.ModuleDict({"classifier": classifier, "domain": critic})
    second = AdaptationStage(
        "cycit-2", net, shared, schedule=half, filtered=shared.filter, to_sar=translators.to_sar
    )
    return unimodal(trained(second, shared, samples)["classifier"], "sar")


METHOD = Method(_predictor, "two translators, two critics, a SAR network on translated images")
