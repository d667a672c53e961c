"""CycIT: translate optical to SAR, then adapt to real SAR (LGRS 2022, doi 3162707).

First a cycle-consistent adversarial translation between the labeled clear optical images and the
target's SAR, unpaired; then a SAR network on translated images with their labels, with an
adversarial and a metric loss toward real SAR. The translation follows CycleGAN: least squares,
critics that see a fake without teaching the translator to fool a saturated loss, Adam at 2e-4 with
beta1 0.5, instance normalization. Our choice: small networks, loss weights 10 (cycle) and 0.1
(adaptation), half of the epochs for each stage. CycleGAN learns for tens of thousands of steps, a
benchmark here has some hundreds; and its paper was known by its abstract only. So this row counts
as **not reproduced** and stands in no mean.
"""

from __future__ import annotations

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.func import functional_call
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
from .told import Gifts

CYCLE_WEIGHT, ADAPTATION_WEIGHT, MARGIN = 10.0, 0.1, 1.0
GAN_RATE, GAN_BETAS = 2e-4, (0.5, 0.999)


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
            adversarial_loss(self.net.critic_sar, sar, fake_sar)
            + adversarial_loss(self.net.critic_optical, optical, fake_optical)
            + CYCLE_WEIGHT * cycle
        )
        return total

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam as CycleGAN sets it, for translators and critics alike."""
        optimizer = torch.optim.Adam(self.net.parameters(), lr=GAN_RATE, betas=GAN_BETAS)
        constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": constant}}


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
        adversarial = domain_loss(domain, real, own)
        metric = triplet_loss(own, labels, real[taught.kept], taught.answer[taught.kept])
        return loss + ADAPTATION_WEIGHT * (adversarial + metric)


def adversarial_loss(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Critic's ``(D(real) - 1)^2 + D(fake)^2`` plus the translator's ``(D(fake) - 1)^2``.

    The first moves the critic alone and the second, through a critic that stands still, the fake
    alone: its gradient is largest where the critic is not fooled.
    """
    judged = ((critic(real) - 1) ** 2).mean() + (critic(fake.detach()) ** 2).mean()
    still = {name: value.detach() for name, value in critic.named_parameters()}
    fooled = ((functional_call(critic, still, fake) - 1) ** 2).mean()
    loss: Tensor = judged + fooled
    return loss


def domain_loss(critic: nn.Module, real: Tensor, own: Tensor) -> Tensor:
    """Cross-entropy of a domain critic whose gradient to both features is reversed (DANN)."""
    answers = critic(scaled_gradient(torch.cat((real, own)), -1.0))[:, 0]
    is_real = (torch.arange(len(answers), device=answers.device) < len(real)).float()
    return functional.binary_cross_entropy_with_logits(answers, is_real)


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
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.InstanceNorm2d(width), nn.ReLU()]
        stride = 1
    return nn.Sequential(*layers, nn.Conv2d(width, outputs, 3, 1, 1))


def _predictor(shared: Shared) -> Predictor:
    run, samples = shared.run, joint_samples(shared.run)
    half = shared.schedule(1 / 2)
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


METHOD = Method(
    _predictor,
    "two translators, two critics, a SAR network on translated images; not reproduced",
    gifts=Gifts(rehearses=False),  # labeled pairs stand beside those of the target instead
    reproduced=False,
)
