"""TTL: from optical to SAR through domains that differ in one factor each (JSTARS 2023, 3269852).

Clear color image -> gray at half resolution -> the same with speckle -> real SAR. Each network
labels the next domain. Our choice of domains; the first two hops use the teacher's clear images,
the last one the target's cloudy pairs; each hop has the whole schedule of the other methods, and
no answer is filtered by confidence, since the networks on the way are less sure than the
teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..judging.judge import Predictor
from ..judging.predictors import unimodal
from ..learning.networks import UnimodalNet
from ..learning.pseudo_labels import PseudoLabelFilter
from ..samples.degraded import Degradation
from ..stages.stage import Batch
from .method import Method, MethodStage, trained, unimodal_net
from .shared import Shared

LOOKS = 3.0


class HopStage(MethodStage[UnimodalNet]):
    """Learns a domain from the network of the domain before."""

    hop = 1

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation of the network before, which sees the same places in its own domain."""
        image = batch["clear" if self.hop < 3 else "optical"]
        before = image if self.hop == 1 else seen(image, speckled=self.hop == 3)
        with torch.no_grad():
            taught = self.judged(self.frozen("before")(before), self.reliability(batch))
        after = batch["sar"] if self.hop == 3 else seen(image, speckled=self.hop == 2)
        return self.imitation(self.net(after), taught)


def seen(optical: Tensor, *, speckled: bool) -> Tensor:
    """Make a gray image at half resolution, ``(N, 1, H, W)``, with gamma speckle if asked."""
    gray = optical.mean(dim=1, keepdim=True)
    coarse = functional.avg_pool2d(gray, 2, ceil_mode=True)
    gray = functional.interpolate(coarse, optical.shape[2:])
    if speckled:
        gamma = torch.distributions.Gamma(LOOKS, LOOKS).sample(gray.shape)
        gray = gray + torch.log(gamma).to(gray)  # a factor on power is an offset in decibels
    return gray


def _predictor(shared: Shared) -> Predictor:
    run = shared.run
    least = run.options.auxiliary.filter.reliability
    unfiltered = PseudoLabelFilter(torch.zeros(len(run.dataset.classes)), least)
    before = shared.teacher
    clear = run.labeled_samples(Degradation(cover=0.0, augment=True))
    for hop in (1, 2, 3):
        name = f"ttl-{hop}"
        net = unimodal_net(shared, name, "sar", None if hop == 3 else 1)
        stage = HopStage(name, net, shared, filtered=unfiltered, before=before)
        stage.hop = hop
        before = trained(stage, shared, None if hop == 3 else clear)
    return unimodal(before, "sar")


METHOD = Method(_predictor, "three SAR-side networks, each taught by the one before")
