"""TTL: from optical to SAR through domains that differ in one factor each (JSTARS 2023, 3269852).

Clear color image -> gray at half resolution -> the same with speckle -> the same of the target's
places -> their SAR. Each network labels the next domain. Our choice of domains: the first two hops
use the teacher's clear images, the third changes places (and with them the sky, since the target
has no clear image), the last one the sensor alone. Where the target is labeled, only the most
confident half of each class teaches. Hops share the epochs evenly.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..judging.judge import Predictor
from ..judging.predictors import unimodal
from ..learning.losses import soften
from ..learning.networks import UnimodalNet
from ..learning.pseudo_labels import PseudoLabelFilter
from ..samples.degraded import Degradation
from ..scene_options import FilterOptions
from ..stages.stage import Batch, epoch_seed
from .method import Method, MethodStage, both_see, trained, unimodal_net
from .shared import Shared

LOOKS = 3.0
HOPS = (1, 2, 3, 4)
#: Share of the answers of each class that teach on the target, most confident first.
TOP_SHARE = 0.5


class HopStage(MethodStage[UnimodalNet]):
    """Learns a domain from the network of the domain before."""

    hop = 1

    def method_loss(self, batch: Batch) -> Tensor:
        """Imitation of the network before, which sees the same places in its own domain."""
        image = batch["clear" if self.hop < 3 else "optical"]
        before = image if self.hop == 1 else seen(image, speckled=self.hop > 2)
        with torch.no_grad():
            logits = self.frozen("before")(before)
        if self.hop < 3:  # the source's images are clear
            taught = self.judged(logits, torch.ones_like(batch["reliability"]))
        else:
            taught = self.judged(logits, self.reliability(batch))
        after = batch["sar"] if self.hop == 4 else seen(image, speckled=self.hop > 1)
        if self.hop == 4:
            taught = taught.where(both_see(batch, "sar"))
        return self.imitation(self.net(after), taught)

    @torch.no_grad()
    def choose(self, views: Iterable[Batch]) -> None:
        """Let only the most confident answers of each class on the target teach."""
        found = [
            (soften(self.frozen("before")(seen(view["optical"], speckled=True))),
             self.reliability(view))
            for view in views
        ]  # fmt: skip
        probabilities, reliability = (torch.cat(part) for part in zip(*found, strict=True))
        least = self.options.auxiliary.filter.reliability
        chosen = FilterOptions(confidence=0.0, top_share=TOP_SHARE, reliability=least)
        self.filter = PseudoLabelFilter.fit(probabilities, reliability, chosen)


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
    unfiltered = PseudoLabelFilter(torch.zeros(len(run.dataset.classes)), 0.0)
    before: nn.Module = shared.teacher
    clear = run.labeled_samples(Degradation(cover=0.0, augment=True))
    schedule = shared.schedule(1 / len(HOPS))
    for hop in HOPS:
        name = f"ttl-{hop}"
        net = unimodal_net(shared, name, "sar", None if hop == HOPS[-1] else 1)
        stage = HopStage(name, net, shared, schedule=schedule, filtered=unfiltered, before=before)
        stage.hop = hop
        if hop > 2:
            torch.manual_seed(epoch_seed(stage.seed, stage.name, -1))  # of the speckle
            stage.choose(run.every_view())
        before = trained(stage, shared, clear if hop < 3 else None)
    return unimodal(before, "sar")


METHOD = Method(_predictor, "four SAR-side networks, each taught by the one before")
