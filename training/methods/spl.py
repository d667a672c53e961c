"""SPL: remove the clouds, then classify with the teacher (TGRS 2022, doi 3157917).

The restorer learns on clear images clouded by us, easy ones first, with an L1 and an SSIM loss.
Our choice: a small U-shaped network, no adversarial loss, difficulty = loss times gradient energy
of the clear image, and an admitted share of a batch that grows evenly from 40 to 100 %.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..judging.judge import Predictor
from ..stages.stage import Batch
from .method import Method, MethodStage, trained
from .shared import Shared
from .told import Gifts

SSIM_WEIGHT = 0.2
FIRST_SHARE = 0.4
#: SSIM constants of Wang et al. (2004) for values in [0, 1]; normalized pixels have unit spread.
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


class Restorer(nn.Module):
    """Cloudy image -> clear image of the same size: two levels down and up, with skips."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = _block(channels, width, 1)
        self.down = _block(width, 2 * width, 2)
        self.deep = _block(2 * width, 4 * width, 2)
        self.up = _block(6 * width, 2 * width, 1)
        self.last = _block(3 * width, width, 1)
        self.out = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, C, H, W)``, as a correction of the input."""
        a = self.first(x)
        b = self.down(a)
        c = self.deep(b)
        b = self.up(torch.cat((b, functional.interpolate(c, b.shape[2:])), dim=1))
        a = self.last(torch.cat((a, functional.interpolate(b, a.shape[2:])), dim=1))
        restored: Tensor = x + self.out(a)
        return restored


class SplStage(MethodStage[Restorer]):
    """Learns to restore, easy images first."""

    def method_loss(self, batch: Batch) -> Tensor:
        """Mean over the admitted share of the batch."""
        clear = batch["clear"]
        losses = restoration_losses(self.net(batch["optical"]), clear)
        progress = self.current_epoch / max(1, self.schedule.epochs - 1)
        share = FIRST_SHARE + (1 - FIRST_SHARE) * progress
        difficulty = losses.detach() * gradient_energy(clear)
        count = max(1, round(share * len(losses)))
        return losses[difficulty.argsort()[:count]].mean()


def restoration_losses(restored: Tensor, clear: Tensor) -> Tensor:
    """``L1 + 0.2 (1 - SSIM)`` per image, ``(N,)``."""
    pixelwise = (restored - clear).abs().flatten(1).mean(dim=1)
    return pixelwise + SSIM_WEIGHT * (1 - structural_similarity(restored, clear))


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Mean SSIM per image over 7 x 7 windows, ``(N,)``; 1 where both are equal."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.avg_pool2d(x, (7, 1), 1), (1, 7), 1)

    ma, mb = mean(a), mean(b)
    va, vb = mean(a * a) - ma * ma, mean(b * b) - mb * mb
    both = mean(a * b) - ma * mb
    upper = (2 * ma * mb + SSIM_C1) * (2 * both + SSIM_C2)
    lower = (ma * ma + mb * mb + SSIM_C1) * (va + vb + SSIM_C2)
    return (upper / lower).flatten(1).mean(dim=1)


def gradient_energy(images: Tensor) -> Tensor:
    """Mean squared difference of neighboring pixels, ``(N,)``: how textured an image is."""
    down, right = images.diff(dim=2), images.diff(dim=3)
    return (down**2).flatten(1).mean(dim=1) + (right**2).flatten(1).mean(dim=1)


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _predictor(shared: Shared) -> Predictor:
    run, teacher = shared.run, shared.teacher
    width = max(4, run.options.student.optical.width // 2)
    run.seed_weights("spl")
    stage = SplStage("spl", Restorer(run.channels[0], width), shared)
    restorer = trained(stage, shared, run.cloudy_labeled_samples())
    return lambda batch: torch.softmax(teacher(restorer(batch["optical"])), dim=1)


METHOD = Method(
    _predictor,
    "a cloud remover taught on clouded labeled images, before the teacher",
    gifts=Gifts(clouds="simulator", rehearses=False),
)
