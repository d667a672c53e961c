"""TTL: from optical to SAR through domains that differ in one factor each (JSTARS 2023, 3269852).

Clear color image -> grey at half resolution -> the same with speckle -> real SAR. Each network
labels the next domain. Our choice of domains; the first two hops use the source's clear images,
the last one the target's cloudy pairs; each hop has the whole schedule of the other methods, and
no answer is filtered by confidence, since the networks on the way are less sure than the source
model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..judging.judge import Predictor, unimodal
from ..learning.pseudo_labels import PseudoLabelFilter
from ..samples.samples import Degradation
from ..stages.chain import Chain
from ..stages.stage import Batch
from .method import Method, MethodStep, trained, unimodal_net

LOOKS = 3.0


class HopStep(MethodStep):
    """Learns a domain from the network of the domain before."""

    hop = 1

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation of the network before on its own view of the same places."""
        view = "clear" if self.hop < 3 else "optical"
        before = batch[view] if self.hop == 1 else seen(batch[view], speckled=self.hop == 3)
        with torch.no_grad():
            taught = self.judged(self.frozen("before")(before), self.reliability(batch))
        after = batch["sar"] if self.hop == 3 else seen(batch[view], speckled=self.hop == 2)
        return self.imitation(self.net(after), taught)


def seen(optical: Tensor, *, speckled: bool) -> Tensor:
    """Make a grey image at half resolution, ``(N, 1, H, W)``, with gamma speckle if asked."""
    grey = optical.mean(dim=1, keepdim=True)
    coarse = functional.avg_pool2d(grey, 2, ceil_mode=True)
    grey = functional.interpolate(coarse, optical.shape[2:])
    if speckled:
        gamma = torch.distributions.Gamma(LOOKS, LOOKS).sample(grey.shape)
        grey = grey + torch.log(gamma).to(grey)  # a factor on power is an offset in decibels
    return grey


def _predictor(chain: Chain) -> Predictor:
    least = chain.options.auxiliary.filter.reliability
    unfiltered = PseudoLabelFilter(torch.zeros(len(chain.source.classes)), least)
    net: nn.Module = chain.teacher
    clear = chain.source_samples(Degradation(cover=0.0, augment=True))
    for hop in (1, 2, 3):
        name = f"ttl-{hop}"
        step = HopStep(
            name, unimodal_net(chain, name, "sar", None if hop == 3 else 1), chain, before=net
        )
        step.hop = hop
        step.filter = unfiltered
        net = trained(step, chain, None if hop == 3 else clear)
    return unimodal(net, "sar")


METHOD = Method(_predictor, "three SAR-side networks, each taught by the one before")
