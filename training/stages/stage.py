"""What the stages of all tasks share: optimizer, schedule, averaged weights, one seed per epoch.

A stage's result depends on its inputs and on (seed, stage name, epoch) only, so a run that was
killed and goes on at the last finished epoch gives the same numbers as an unbroken one, and the
order of the stages changes none of them.
"""

from __future__ import annotations

import copy
import math
import zlib
from typing import Any, Generic, TypeVar

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from ..options import Schedule

Batch = dict[str, Tensor]
N = TypeVar("N", bound=nn.Module)


def epoch_seed(seed: int, name: str, epoch: int) -> int:
    """Return the seed of everything drawn in one epoch of one stage; -1 for its first weights."""
    return zlib.crc32(f"{seed}/{name}/{epoch}".encode())


#: Momentum and weight decay of SGD, and its learning rate as a multiple of that of AdamW: common
#: values for small residual networks (0.1 beside 2e-3); nothing here was tuned.
SGD_MOMENTUM, SGD_DECAY, SGD_RATE = 0.9, 5e-4, 25.0


class Stage(L.LightningModule, Generic[N]):
    """A network that learns; subclasses define the loss.

    Attributes:
        net: The network in training.
        average: Running mean of its weights and statistics, which is what the stage returns.
        name: Names the stage's files and its random numbers.
    """

    net: N
    average: N

    def __init__(self, net: N, schedule: Schedule, name: str, seed: int) -> None:
        super().__init__()
        self.net = net
        if all(parameter.ndim <= 4 for parameter in net.parameters()):
            # The layout that convolutions on CPUs are fastest in; it changes no value.
            self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(net).requires_grad_(False)
        self.schedule = schedule
        self.name = name
        self.seed = seed
        self._frozen: dict[str, nn.Module] = {}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of a batch and what to log beside it."""
        raise NotImplementedError

    def start_at(self, net: nn.Module) -> None:
        """Begin with the weights of a network of the same shape."""
        for own in (self.net, self.average):
            own.load_state_dict(net.state_dict())

    def keep_frozen(self, **networks: nn.Module) -> None:
        """Keep trained networks for use, outside of this stage's weights and checkpoints."""
        self._frozen |= {
            name: copy.deepcopy(net).eval().requires_grad_(False) for name, net in networks.items()
        }

    def frozen(self, name: str) -> nn.Module:
        """Return a network given to `keep_frozen`."""
        return self._frozen[name]

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Compute and log the loss of one batch."""
        loss, logged = self.loss(batch)
        values = {"loss": loss.detach(), **{k: v.detach() for k, v in logged.items()}}
        batch_size = len(next(iter(batch.values())))
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=batch_size)
        return loss

    def on_fit_start(self) -> None:
        """Bring the frozen networks to the device."""
        for net in self._frozen.values():
            net.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Seed this epoch."""
        torch.manual_seed(epoch_seed(self.seed, self.name, self.current_epoch))

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the averaged weights; early steps weigh more until the mean has grown."""
        decay = min(self.schedule.averaging, self.global_step / (self.global_step + 10))
        with torch.no_grad():
            for mean, value in zip(
                self.average.state_dict().values(), self.net.state_dict().values(), strict=True
            ):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW or SGD with the rates of the schedule; norms and biases do not decay."""
        decaying = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decaying},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer
        rate, decay = self.schedule.learning_rate, self.schedule.weight_decay
        if self.schedule.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=SGD_RATE * rate, momentum=SGD_MOMENTUM, weight_decay=SGD_DECAY,
                nesterov=True,
            )  # fmt: skip
        else:
            optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
        total = int(self.trainer.estimated_stepping_batches)
        share, halved_at = self.schedule.warmup_share, self.schedule.halved_at
        steps = max(1, total // self.schedule.epochs)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: (
                rate_share(step, total, share)
                if halved_at is None
                else 0.5 ** sum(step // steps >= epoch for epoch in halved_at)
            ),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def rate_share(step: int, total: int, warmup_share: float) -> float:
    """Learning rate at a step of the optimizer as a share of its highest value."""
    warmup = max(1, round(warmup_share * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def kept_mean(values: Tensor, kept: Tensor, present: Tensor) -> Tensor:
    """Sum of ``(N,)`` values over the kept samples, divided by the number of those present.

    Beside a mean over all that are present a few kept ones weigh no more than their number.
    """
    return (values * (kept & present)).sum() / present.sum().clamp_min(1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``(N,)`` values over the samples where the mask is true; 0 if there are none."""
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp_min(1)
